"""The temporary table `file`: rows looked up in a file that may change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.component import Temporary
from penstock.errors import ConnectionLost, PermanentError
from penstock.temporary.file import File, Rows
from penstock.testing.clock import StandingClock
from penstock.testing.contexts import lend_context
from penstock.testing.suites import TemporarySuite

CSV = 'id,site,level\na,north,1\nb,,2\n"ünï \'q""",south,3\n,nobody,4\n'


class TestCsv(TemporarySuite):
    @pytest.fixture
    def component(self, tmp_path: Path) -> Temporary:
        (tmp_path / "sites.csv").write_text(CSV)
        return Temporary.parse({"type": "file", "name": "sites", "path": str(tmp_path / "sites.csv"), "key": "id"})


class TestSeveralRows(TemporarySuite):
    rows = {"1": [{"id": 1, "n": "x"}, {"id": 1, "n": "y"}], "2": [{"id": 2, "n": "z"}]}

    @pytest.fixture
    def component(self, tmp_path: Path) -> Temporary:
        (tmp_path / "t.jsonl").write_text('{"id": 1, "n": "x"}\n{"id": 2, "n": "z"}\n{"id": 1, "n": "y"}\n')
        return File(name="t", path=tmp_path / "t.jsonl", key="id")


class TestParquet(TemporarySuite):
    rows = {"7": [{"id": 7, "tags": ["a", "b"]}]}

    @pytest.fixture
    def component(self, tmp_path: Path) -> Temporary:
        pa.parquet.write_table(pa.table({"id": [7, None], "tags": [["a", "b"], []]}), tmp_path / "t.parquet")
        return File(name="t", path=tmp_path / "t.parquet", key="id")


async def find(lookup: Any, *keys: str) -> list[dict[str, Any]]:
    found = await lookup.find(pa.array(keys, pa.string()))
    rows: list[dict[str, Any]] = found.rows.to_pylist()
    return rows


async def test_a_file_that_changes_is_read_again_after_a_while(tmp_path: Path) -> None:
    path, clock = tmp_path / "t.csv", StandingClock()
    path.write_text("id,n\na,1\n")
    async with (
        lend_context(tmp_path, clock=clock) as context,
        File(name="t", path=path, key="id").open(context) as table,
    ):
        path.write_text("id,n,m\na,2,3\n")
        assert await find(table, "a") == [{"id": "a", "n": 1}]
        clock.now += 11
        assert await find(table, "a") == [{"id": "a", "n": 2, "m": 3}]


@pytest.mark.parametrize("damage", ["gone", "no key", "too large"])
async def test_a_file_that_cannot_be_read_any_more_leaves_the_rows_of_before(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "t.csv", StandingClock()
    path.write_text("id,n\na,1\n")
    options = File(name="t", path=path, key="id", max_size=100)
    async with lend_context(tmp_path, clock=clock) as context, options.open(context) as table:
        if damage == "gone":
            os.unlink(path)
        else:
            path.write_text("other\n1\n" if damage == "no key" else "id,n\n" + "a,1\n" * 100)
        clock.now += 11
        assert await find(table, "a") == [{"id": "a", "n": 1}]
        assert "the rows of before are used" in caplog.text
        path.write_text("id,n\na,5\n")
        clock.now += 11
        assert await find(table, "a") == [{"id": "a", "n": 5}]


async def test_a_file_that_is_not_there_is_waited_for_and_a_wrong_key_is_told(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context:
        with pytest.raises(ConnectionLost, match="No such file"):
            await File(name="t", path=tmp_path / "t.csv", key="id").open(context).__aenter__()
        (tmp_path / "t.csv").write_text("a,b\n1,2\n")
        with pytest.raises(PermanentError, match="no column 'id' to find rows by, among a, b"):
            await File(name="t", path=tmp_path / "t.csv", key="id").open(context).__aenter__()


def test_a_file_of_an_unknown_kind_needs_a_codec() -> None:
    with pytest.raises(ValidationError, match="give a `codec`"):
        File(name="t", path=Path("t.dat"), key="id")
    with pytest.raises(ValidationError, match="name"):
        Temporary.parse({"type": "file", "path": "t.csv", "key": "id"})
    with pytest.raises(ValueError, match="no temporary is called 'files'; did you mean 'file'"):
        Temporary.parse("files")


@given(st.lists(st.none() | st.text("ab", max_size=2), max_size=20), st.sets(st.text("ab", max_size=2), max_size=8))
def test_any_rows_are_found_by_any_keys(column: list[str | None], keys: set[str]) -> None:
    asked = sorted(keys)
    table = Rows(pa.record_batch({"key": pa.array(column, pa.string()), "at": pa.array(range(len(column)))}), "key")
    found = table.find(pa.array(asked, pa.string()))
    pairs = [(asked[at], row["at"]) for at, row in zip(found.keys.to_pylist(), found.rows.to_pylist(), strict=True)]
    assert sorted(pairs) == sorted((key, at) for key in asked for at, value in enumerate(column) if value == key)
    assert found.keys.to_pylist() == sorted(found.keys.to_pylist())
