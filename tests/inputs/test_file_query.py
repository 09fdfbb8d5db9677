"""One SQL query over all the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.component import Input
from penstock.errors import ConfigError, PermanentError
from penstock.inputs.file import File
from penstock.testing.suites.inputs import InputSuite

from .files import Reading
from .test_file import CONTENTS, NUMBERS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


class TestQuery(InputSuite):
    """The rows of a result, a few at a time."""

    @pytest.fixture
    def component(self, folder: Path) -> Input:
        (folder / "rows.parquet").write_bytes(CONTENTS["rows.parquet"])
        query = {"query": "SELECT n * 2 AS twice FROM flow WHERE n > 3 ORDER BY n"}
        return File.model_validate({"path": str(folder), "query": query, "batch_rows": 3})


@pytest.mark.parametrize(
    "name", ["lines.json", "table.csv", "table.csv.gz", "lines.json.zst", "rows.parquet", "rows.arrow", "packed.avro"]
)
async def test_every_format_can_be_queried(folder: Path, name: str) -> None:
    (folder / name).write_bytes(CONTENTS[name])
    options = {"path": str(folder / name), "query": {"query": "SELECT sum(n) AS total FROM files", "table": "files"}}
    assert await Reading(options, folder.parent).all() == [{"total": 190}]


async def test_the_reference_form_of_a_query(folder: Path) -> None:
    (folder / "lines.json").write_bytes(CONTENTS["lines.json"])
    options = {
        "input_type": {"type": "json", "path": str(folder / "lines.json")},
        "query": {"query": "SELECT * FROM flow WHERE n = 7"},
    }
    assert await Reading(options, folder.parent).all() == [{"n": 7}]


async def test_files_are_one_table_by_the_names_of_their_columns(folder: Path) -> None:
    (folder / "a.json").write_text('{"a":1,"b":"x"}\n')
    (folder / "b.csv").write_text("b,c\ny,2\n")
    (folder / "c.json").write_text("")
    options = {"path": str(folder), "query": {"query": "SELECT a, b, c FROM flow ORDER BY b"}}
    rows = await Reading(options, folder.parent).all()
    assert rows == [{"a": 1, "b": "x", "c": None}, {"a": None, "b": "y", "c": 2}]


async def test_r7_types_come_from_all_rows_of_a_file(folder: Path) -> None:
    lines = [json.dumps({"n": number}) for number in range(3000)] + ['{"n": 0.5, "late": "yes"}']
    (folder / "a.json").write_text("\n".join(lines) + "\n")
    options = {"path": str(folder), "query": {"query": "SELECT n, late FROM flow WHERE late IS NOT NULL"}}
    assert await Reading(options, folder.parent).all() == [{"n": 0.5, "late": "yes"}]


async def test_resumes_behind_the_rows_already_delivered(folder: Path) -> None:
    (folder / "rows.parquet").write_bytes(CONTENTS["rows.parquet"])
    options = {"path": str(folder), "batch_rows": 3, "query": {"query": "SELECT n FROM flow ORDER BY n"}}
    reading = Reading(options, folder.parent)
    read = []
    while rows := await reading.all(most=1):
        read += rows
    assert read == NUMBERS
    assert await reading.all() == []


async def test_changed_files_are_queried_anew(folder: Path) -> None:
    (folder / "a.csv").write_text("n\n1\n")
    reading = Reading({"path": str(folder), "query": {"query": "SELECT * FROM flow"}}, folder.parent)
    assert await reading.all() == [{"n": 1}]
    assert await reading.all() == []
    (folder / "a.csv").write_text("n\n1\n2\n")
    assert await reading.all() == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("DROP TABLE flow", "DDL"),
        ("INSERT INTO flow VALUES (1)", "DML"),
        ("SELECT nothing FROM flow", "nothing"),
        ("SELEC", "SELEC"),
    ],
)
async def test_only_a_select_that_can_be_planned(folder: Path, query: str, reason: str) -> None:
    (folder / "a.csv").write_text("n\n1\n")
    with pytest.raises(ConfigError, match=reason):
        await Reading({"path": str(folder), "query": {"query": query}}, folder.parent).all()


async def test_text_has_no_columns_to_query(folder: Path) -> None:
    (folder / "a.log").write_text("1\n")
    with pytest.raises(ConfigError, match=r"a\.log has no columns"):
        await Reading({"path": f"{folder}/*", "query": {"query": "SELECT 1"}}, folder.parent).all()


async def test_the_arithmetic_of_a_query_over_files_is_exact_or_refused(folder: Path) -> None:
    (folder / "a.json").write_text(f'{{"n":{2**63 - 2}}}\n')
    for added, found in ((1, [{"m": 2**63 - 1}]), (2, None)):
        query = {"query": f"SELECT n + {added} AS m FROM flow"}
        reading = Reading({"path": str(folder), "query": query}, folder.parent)
        if found is None:
            with pytest.raises(PermanentError, match=r"overflow: 9223372036854775806 \+ 2 is out of range of int64"):
                await reading.all()
        else:
            assert await reading.all() == found
