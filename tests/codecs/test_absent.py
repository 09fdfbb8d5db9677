"""A field that a row lacks and one that is null stay what they are through the codecs that can tell them apart."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Engine, Stream
from penstock.codecs.cbor import Cbor
from penstock.codecs.json import Json
from penstock.codecs.msgpack import Msgpack
from penstock.component import Codec
from penstock.delivery import Delivery
from penstock.metadata import ABSENT
from penstock.outputs.drop import Drop
from penstock.processors.arrow_to_json import ArrowToJson
from penstock.runtime.deadletter import Refusal, dead_letters

ROWS = '[{"k": 1}, {"k": 2, "v": null}, {"k": 3, "v": "new"}, {"k": 4, "w": 1}]'


@pytest.mark.parametrize("codec", [Msgpack(), Cbor(), Json(nulls=True)])
def test_what_a_row_lacks_is_left_out_and_a_null_is_written(codec: Codec) -> None:
    rows = Json().decoder()(pa.array([ROWS.encode()], pa.binary()))
    assert ABSENT in rows.schema.names
    written = Drop(codec=codec).payloads(rows)
    again = codec.decoder()(written)
    assert again.column(ABSENT).to_pylist() == ['["v","w"]', '["w"]', '["w"]', '["v"]']
    assert again.column("k").to_pylist() == [1, 2, 3, 4]
    alike = Drop(codec=codec).payloads(rows.slice(2, 1).select(["k", "v"]))
    assert codec.decode(alike).to_pylist() == [{"k": 3, "v": "new"}]


@pytest.mark.parametrize(
    ("codec", "framing"),
    [
        ("msgpack", "length_delimited"),
        ("cbor", "length_delimited"),
        ({"type": "json", "nulls": True}, "lines"),
        ({"type": "json", "nulls": True}, "length_delimited"),
    ],
)
async def test_an_upsert_behind_a_file_leaves_what_was_absent_and_erases_what_was_null(
    codec: Any, framing: str, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "t.db")) as database:
        database.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)")
        database.execute("INSERT INTO t VALUES (1, 'old'), (2, 'old')")
        database.commit()
    file = {"type": "file", "path": str(tmp_path / "rows.bin"), "codec": codec, "framing": framing}
    table = {"type": "sql", "url": f"sqlite:///{tmp_path}/t.db", "table_name": "t", "key": ["k"]}
    first: dict[str, Any] = {"input": {"type": "memory", "messages": [ROWS], "codec": "json"}, "output": file}
    for id, options in (("write", first), ("read", {"input": file, "output": table})):
        await Engine([Stream.model_validate({"id": id, **options})], data=tmp_path / "data").run()
    with closing(sqlite3.connect(tmp_path / "t.db")) as database:
        found = database.execute("SELECT k, v FROM t ORDER BY k").fetchall()
    assert found == [(1, "old"), (2, None), (3, "new"), (4, None)]


async def test_a_table_that_is_copied_by_way_of_json_erases_what_became_null(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "t.db")) as database:
        database.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)")
        database.execute("INSERT INTO t VALUES (1, NULL), (2, 'new')")
        database.execute("CREATE TABLE copy (k INTEGER PRIMARY KEY, v TEXT)")
        database.execute("INSERT INTO copy VALUES (1, 'old'), (2, 'old')")
        database.commit()
    url = f"sqlite:///{tmp_path}/t.db"
    source = {"type": "sql", "url": url, "select_sql": "SELECT k, v FROM t ORDER BY k"}
    file = {"type": "file", "path": str(tmp_path / "rows.jsonl"), "codec": {"type": "json", "nulls": True}}
    table = {"type": "sql", "url": url, "table_name": "copy", "key": ["k"]}
    for id, read, write in (("write", source, file), ("read", file, table)):
        stream = Stream.model_validate({"id": id, "input": read, "output": write})
        await Engine([stream], data=tmp_path / "data").run()
    with closing(sqlite3.connect(tmp_path / "t.db")) as database:
        assert database.execute("SELECT k, v FROM copy ORDER BY k").fetchall() == [(1, None), (2, "new")]


KINDS = {
    "a": st.integers(-(2**53), 2**53),
    "b": st.text('x"\n\u00e9', max_size=3),
    "c": st.booleans(),
    "d": st.floats(-9, 9),
}


@given(st.lists(st.fixed_dictionaries({}, optional={k: st.none() | kind for k, kind in KINDS.items()}), min_size=1))
def test_json_with_nulls_writes_every_row_as_it_came(rows: list[dict[str, Any]]) -> None:
    batch = Json().decoder()(pa.array([json.dumps(row).encode() for row in rows], pa.binary()))
    assert [json.loads(text) for text in Drop(codec=Json(nulls=True)).payloads(batch).to_pylist()] == rows


def test_a_dead_letter_tells_a_null_from_what_the_row_lacked() -> None:
    batch = Json().decoder()(pa.array([ROWS.encode()], pa.binary()))
    letters = dead_letters("s", Delivery(batch), [Refusal(batch, "output", "no")])
    assert [json.loads(text) for text in letters.column("payload").to_pylist()] == json.loads(ROWS)


@pytest.mark.parametrize("fields", [None, ["k", "v", "w"]])
def test_the_processor_writes_nulls_where_it_is_asked_to(fields: list[str] | None) -> None:
    batch = Json().decoder()(pa.array([ROWS.encode()], pa.binary()))
    (made,) = ArrowToJson(nulls=True, fields_to_include=fields).process(batch)
    assert [json.loads(text) for text in made.column("__value__").to_pylist()] == json.loads(ROWS)
    (made,) = ArrowToJson(fields_to_include=fields).process(batch)
    assert [json.loads(text) for text in made.column("__value__").to_pylist()][1] == {"k": 2}
