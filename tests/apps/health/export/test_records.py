from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.apps.health.export import records as module
from penstock.apps.health.export.records import POINT, ROUTE, SERIES, WORKOUT, Records
from penstock.apps.health.export.slices import Part, Slice
from penstock.apps.health.rows import ROWS

from .test_slices import ACCEPTED

POINTS = {"record": POINT, "type": "step_count", "metric": "step_count"}


@pytest.fixture
def records() -> Records:
    return Records(Part(accepted=ACCEPTED, number=2, last=True, format="v2", canonical="abc"))


def test_a_batch_ends_in_what_is_said_of_the_part(records: Records) -> None:
    records.received("step_count", 2)
    records.extend(2, POINTS | {"time": [1, 2], "index": [0, 1], "original": ["{}", "{}"]})
    batch = records.batch()
    assert batch.schema == ROWS
    assert batch.column("record").to_pylist() == ["point", "point", "part"]
    said = json.loads(batch.column("fields")[2].as_py())
    assert said.pop("accepted")["id"] == ACCEPTED.id
    assert said == {
        **{"part": 2, "last": True, "received": {"step_count": 2}, "error": None, "format": "v2", "canonical": "abc"}
    }
    assert set(batch.column("user").to_pylist()) == {7}
    assert set(batch.column("ingest").to_pylist()) == {ACCEPTED.id}


def test_a_part_without_rows_is_a_batch_too(records: Records) -> None:
    assert records.batch().num_rows == 1


def test_rows_are_added_one_by_one_and_by_columns_in_order(records: Records) -> None:
    for index in range(3):
        records.add(record=POINT, type="a", index=index, time=datetime(2026, 2, 3, tzinfo=UTC), original=b"{}")
    records.extend(2, POINTS | {"index": np.array([3, 4]), "time": pa.array([0, 1]), "value": [math.nan, 1.5]})
    records.add(record=POINT, type="a", index=5, time=5, end_time=6)
    batch = records.batch()
    assert batch.column("index").to_pylist() == [0, 1, 2, 3, 4, 5, None]
    assert batch.column("value").to_pylist() == [None, None, None, None, 1.5, None, None]
    assert batch.column("time")[0].as_py() == batch.column("end_time")[0].as_py() == datetime(2026, 2, 3, tzinfo=UTC)
    assert batch.column("end_time")[5].value == 6


@pytest.mark.parametrize(
    "columns",
    [
        {"unknown": 1},
        {"value": [math.inf, 1]},
        {"value": [1.0]},
        {"time": [10**18, 0]},
        {"metric": ["\ud800", ""]},
        {"value": ["a", "b"]},
    ],
)
@pytest.mark.parametrize("few", [True, False])
def test_what_no_table_holds_is_refused(records: Records, columns: dict[str, Any], few: bool) -> None:
    count = 2 if few else 200
    many = {name: values * (count // 2) if isinstance(values, list) else values for name, values in columns.items()}

    def add() -> None:
        records.extend(count, POINTS | {"time": 1} | many)
        records.flush()

    with pytest.raises((ValueError, TypeError, pa.ArrowException)):
        add()


def test_a_parser_that_fails_leaves_nothing_behind(records: Records) -> None:
    records.received("a")
    records.add(record=POINT, type="a", index=0, time=0)
    mark = records.mark()
    records.received("a")
    records.received("b", 2)
    records.add(record=POINT, type="b", index=0, time=0)
    assert records.missing() == {"a": 1, "b": 1}
    records.rewind(mark)
    assert records.missing() == {}
    assert records.batch().num_rows == 2


@pytest.mark.parametrize("before", [0, 1, 100])
@pytest.mark.parametrize("after", [1, 100])
def test_what_came_before_a_parser_that_fails_stays(records: Records, before: int, after: int) -> None:
    for count in (before, 2):
        records.received("a", count)
        records.extend(count, POINTS | {"type": "a", "time": 1})
    mark = records.mark()
    for count in (1, after, 1):
        records.received("b", count)
        records.extend(count, POINTS | {"type": "b", "time": 1})
    records.rewind(mark)
    assert records.batch().column("type").to_pylist() == ["a"] * (before + 2) + [None]


def test_the_columns_are_made_once_however_many_slices_there_are(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    whole = module._columns

    def counted(count: int, columns: Any) -> Any:
        made.append(count)
        return whole(count, columns)

    monkeypatch.setattr(module, "_columns", counted)
    for number in range(1000):
        records.mark()
        records.received(f"k{number}", 2)
        records.extend(2, POINTS | {"type": f"k{number}", "time": np.array([1, 2])})
    assert records.batch().num_rows == 2001
    assert made == [2000, 1]


def test_what_is_quarantined_says_what_where_and_why(records: Records) -> None:
    slice = Slice(section="symptoms", path="data.symptoms", first=0)
    records.received("symptoms", 3)
    records.quarantine(slice, 7, "because\0", {"a": 1})
    records.quarantine(slice, 8, "no text", b"\xff", path="elsewhere")
    records.quarantine(slice, 9, "half a pair", {"a": "\ud800"})
    rows = records.batch().to_pylist()
    assert [row["path"] for row in rows[:3]] == ["data.symptoms[7]", "elsewhere", "data.symptoms[9]"]
    assert rows[0]["reason"] == "because\N{REPLACEMENT CHARACTER}"
    assert rows[0]["payload"] == '{"a":1}'
    assert records.missing() == {}


def numbered(records: Records, record: str, rows: list[dict[str, Any]]) -> list[int]:
    for index, row in enumerate(rows):
        values = {"record": record, "type": "t", "time": 0, "original": "{}"} | row
        records.add(index=index, **values)
    return records.batch().column("ordinal").to_pylist()[:-1]


def test_what_is_missing_is_what_came_since_the_mark(records: Records) -> None:
    records.received("a", 2)
    assert records.missing() == {"a": 2}
    records.mark()
    assert records.missing() == {}
    records.received("a")
    assert records.missing() == {"a": 1}
    said = json.loads(records.batch().to_pylist()[-1]["fields"])
    assert said["received"] == {"a": 3}


@pytest.mark.parametrize("name", ["metric", "source", "kind", "end_time", "time"])
def test_points_of_different_keys_are_not_numbered(records: Records, name: str) -> None:
    values: list[Any] = [1, 2] if "time" in name else ["a", "b"]
    assert numbered(records, POINT, [{name: value, "original": str(value)} for value in values]) == [0, 0]


def test_l12_duplicates_in_one_part_have_the_number_of_what_they_repeat(records: Records) -> None:
    said = [{"original": text} for text in ("a", "b", "a", "c", "b", "a")]
    assert numbered(records, POINT, [*said, {"kind": "other", "original": "b"}]) == [0, 1, 0, 2, 1, 0, 0]


def test_what_differs_in_its_unit_differs(records: Records) -> None:
    assert numbered(records, POINT, [{"original_unit": "kg"}, {"original_unit": "lb"}, {"original_unit": "kg"}]) == [
        0,
        1,
        0,
    ]


def test_series_and_routes_have_keys_of_their_own_and_workouts_no_number(records: Records) -> None:
    rows = [{"parent": "a", "original": "1"}, {"parent": "b", "original": "2"}, {"parent": "a", "original": "3"}]
    assert numbered(records, SERIES, rows) == [0, 0, 1]
    assert numbered(records, ROUTE, rows)[3:] == [0, 0, 1]
    assert numbered(records, WORKOUT, rows)[6:] == [0, 0, 0]
