"""CSV of the file input: the same rows as everywhere, however the files are cut; damage costs little."""

from __future__ import annotations

import asyncio
import csv
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import EndOfInput, PermanentError
from penstock.inputs.http.bodies import BodyFraming, media, parse
from penstock.metadata import VALUE

from .files import Reading


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


FIELDS = st.sampled_from(
    ["1", "2.5", "x", '5" pipe', '"a,b"', '"say ""hi"""', '"two\nlines"', "", '""', "a'b", '"z"y"w']
)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 99), FIELDS), min_size=1, max_size=30),
    size=st.integers(16, 200),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_a_run_and_a_post_read_the_same_rows_however_a_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str]], size: int, end: str
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    text = "".join(f"{left},{right}{end}" for left, right in [("n", "text"), *rows]).encode()
    (folder / "a.csv").write_bytes(text)
    options = {"path": str(folder / "a.csv"), "chunk_size": size}
    told = asyncio.run(Reading(options, folder).all())
    posted = parse(text, media(b"text/csv"), BodyFraming.AUTO, False, 1 << 20)
    assert isinstance(posted, pa.RecordBatch)
    expected = list(csv.reader(io.StringIO(text.decode(), newline="")))[1:]
    assert [tuple(map(written, row.values())) for row in told] == list(map(tuple, expected))
    assert [tuple(map(written, row.values())) for row in posted.to_pylist()] == list(map(tuple, expected))


def written(value: Any) -> str:
    return "" if value is None else str(value).removesuffix(".0")


async def test_a_quote_that_is_never_closed_costs_one_record(folder: Path) -> None:
    (folder / "a.csv").write_text('id,size\n1,x\n2,"5 pipe\n3,x\n4,5" pipe\n' + "5,x\n" * 3)
    (folder / "b.csv").write_text('id,size\n1,"x\n' + "2,y\n" * 1000)
    rows, refused = await decoded(Reading({"path": str(folder), "chunk_size": 64}, folder.parent))
    assert rows == [(1, "x"), (2, "5 pipe\n3,x\n4,5 pipe")] + [(5, "x")] * 3 + [(2, "y")] * 1000
    assert refused == [b'1,"x\n']


async def decoded(reading: Reading) -> tuple[list[tuple[Any, ...]], list[bytes]]:
    """The rows of all files, and the payloads that their decoders refuse."""
    rows: list[tuple[Any, ...]] = []
    refused: list[bytes] = []
    async with reading.opened() as (_, reader):
        while True:
            try:
                delivery = await asyncio.wait_for(reader.read(), 60)
            except EndOfInput:
                return rows, refused
            for payload in delivery.batch.column(VALUE).to_pylist():
                assert delivery.decoder is not None
                try:
                    rows += [tuple(row.values()) for row in delivery.decoder(pa.array([payload])).to_pylist()]
                except PermanentError:
                    refused.append(payload)
            await delivery.ack()
