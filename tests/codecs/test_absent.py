"""A field that a row lacks and one that is null stay what they are through the codecs that can tell them apart."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock import Engine, Stream
from penstock.codecs.cbor import Cbor
from penstock.codecs.json import Json
from penstock.codecs.msgpack import Msgpack
from penstock.component import Codec
from penstock.metadata import ABSENT
from penstock.outputs.drop import Drop

ROWS = '[{"k": 1}, {"k": 2, "v": null}, {"k": 3, "v": "new"}, {"k": 4, "w": 1}]'


@pytest.mark.parametrize("codec", [Msgpack(), Cbor()])
def test_what_a_row_lacks_is_left_out_and_a_null_is_written(codec: Codec) -> None:
    rows = Json().decoder()(pa.array([ROWS.encode()], pa.binary()))
    assert ABSENT in rows.schema.names
    written = Drop(codec=codec).payloads(rows)
    again = codec.decoder()(written)
    assert again.column(ABSENT).to_pylist() == ['["v","w"]', '["w"]', '["w"]', '["v"]']
    assert again.column("k").to_pylist() == [1, 2, 3, 4]
    alike = Drop(codec=codec).payloads(rows.slice(2, 1).select(["k", "v"]))
    assert codec.decode(alike).to_pylist() == [{"k": 3, "v": "new"}]


@pytest.mark.parametrize("codec", ["msgpack", "cbor"])
async def test_an_upsert_behind_a_file_leaves_what_was_absent_and_erases_what_was_null(
    codec: str, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "t.db")) as database:
        database.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)")
        database.execute("INSERT INTO t VALUES (1, 'old'), (2, 'old')")
        database.commit()
    file = {"type": "file", "path": str(tmp_path / "rows.bin"), "codec": codec, "framing": "length_delimited"}
    table = {"type": "sql", "url": f"sqlite:///{tmp_path}/t.db", "table_name": "t", "key": ["k"]}
    first: dict[str, Any] = {"input": {"type": "memory", "messages": [ROWS], "codec": "json"}, "output": file}
    for id, options in (("write", first), ("read", {"input": file, "output": table})):
        await Engine([Stream.model_validate({"id": id, **options})], data=tmp_path / "data").run()
    with closing(sqlite3.connect(tmp_path / "t.db")) as database:
        found = database.execute("SELECT k, v FROM t ORDER BY k").fetchall()
    assert found == [(1, "old"), (2, None), (3, "new"), (4, None)]
