"""The unnest processor: lists into rows, structs into columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.component import Processor
from penstock.delivery import Batch
from penstock.errors import PermanentError
from penstock.processors.unnest import Unnest
from penstock.testing import batches
from penstock.testing.suites.processors import ProcessorSuite


def listed(start: int, rows: int, lengths: Sequence[int]) -> Batch:
    items = [
        [{"x": n, "y": f"{n}-{k}"} for k in range(lengths[n % len(lengths)])] or None
        for n in range(start, start + rows)
    ]
    kind = pa.list_(pa.struct([("x", pa.int64()), ("y", pa.string())]))
    return batches.sample(start, rows).append_column("items", pa.array(items, kind))


class TestRowsAndColumns(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Processor.parse({"type": "unnest", "rows": "items", "columns": "items", "prefix": "item_"})

    def sample(self, start: int, rows: int) -> Batch:
        return listed(start, rows, [2, 0, 1])


class TestRowsThatVanish(TestRowsAndColumns):
    @pytest.fixture
    def component(self) -> Processor:
        return Unnest(rows=["items"], empty="drop", position="place")


def unnest(column: pa.Array, **options: Any) -> list[dict[str, Any]]:
    batch = pa.record_batch({"id": range(len(column)), "it": column})
    return [row for found in Unnest(**options).process(batch) for row in found.to_pylist()]


LISTS = [[1, None], None, [], [2]]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int64()),
        pa.large_list(pa.int64()),
        pa.list_view(pa.int64()),
    ],
    ids=str,
)
def test_lists_of_each_kind_become_rows(kind: pa.DataType) -> None:
    rows = unnest(pa.array(LISTS, kind), rows="it")
    assert [(row["id"], row["it"]) for row in rows] == [(0, 1), (0, None), (1, None), (2, None), (3, 2)]
    rows = unnest(pa.array(LISTS, kind), rows="it", empty="drop")
    assert [(row["id"], row["it"]) for row in rows] == [(0, 1), (0, None), (3, 2)]


def test_lists_of_one_length_keep_their_nulls_apart() -> None:
    rows = unnest(pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)), rows="it")
    assert [(row["id"], row["it"]) for row in rows] == [(0, 1), (0, 2), (1, None), (2, 3), (2, 4)]


def test_a_null_list_may_have_items_below_it() -> None:
    lists = pa.ListArray.from_arrays(
        pa.array([0, 2, 4, 5]), pa.array([1, 2, 3, 4, 5]), mask=pa.array([False, True, False])
    )
    assert [row["it"] for row in unnest(lists, rows="it")] == [1, 2, None, 5]


def test_a_slice_of_lists_is_unnested_alone() -> None:
    lists = pa.array([[1], [2, 3], [4], [5, 6]])
    assert [row["it"] for row in unnest(lists.slice(1, 2), rows="it")] == [2, 3, 4]


def test_maps_become_keys_and_values() -> None:
    maps = pa.array([[("a", 1), ("b", 2)], None], pa.map_(pa.string(), pa.int64()))
    assert unnest(maps, rows="it", columns="it") == [
        {"id": 0, "key": "a", "value": 1},
        {"id": 0, "key": "b", "value": 2},
        {"id": 1, "key": None, "value": None},
    ]


def test_the_fields_of_a_null_struct_are_null() -> None:
    rows = unnest(pa.array([{"x": 1}, None]), columns="it", prefix="it_")
    assert rows == [{"id": 0, "it_x": 1}, {"id": 1, "it_x": None}]


def test_the_position_counts_from_zero() -> None:
    assert [row["at"] for row in unnest(pa.array(LISTS), rows="it", position="at")] == [0, 1, None, None, 0]


@given(st.lists(st.none() | st.lists(st.integers(0, 9) | st.none(), max_size=4), max_size=12))
def test_any_lists_become_what_python_makes_of_them(lists: list[list[int | None] | None]) -> None:
    column = pa.array(lists, pa.list_(pa.int64()))
    kept = [(n, item) for n, each in enumerate(lists) for item in each or [None]]
    dropped = [(n, item) for n, each in enumerate(lists) for item in each or []]
    assert [(row["id"], row["it"]) for row in unnest(column, rows="it")] == kept
    assert [(row["id"], row["it"]) for row in unnest(column, rows="it", empty="drop")] == dropped


@pytest.mark.parametrize(
    ("options", "column", "message"),
    [
        ({"rows": "it"}, pa.array([1]), "expected a list or a map"),
        ({"columns": "it"}, pa.array([1]), "expected a struct"),
        ({"rows": "other"}, pa.array([1]), "no column 'other' to unnest, among id, it"),
        ({"columns": "it"}, pa.array([{"id": 1}]), "a second column 'id': give a `prefix`"),
        ({"columns": "it"}, pa.array([{"__meta_source": 1}]), "like metadata"),
        ({"rows": "it", "position": "id"}, pa.array([[1]]), "there is a column 'id' already"),
    ],
)
def test_what_cannot_be_unnested_is_refused(options: dict[str, Any], column: pa.Array, message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        unnest(column, **options)


@pytest.mark.parametrize("options", [{}, {"rows": ["a", "b"], "position": "n"}, {"columns": "__meta_ext"}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Unnest(**options)
