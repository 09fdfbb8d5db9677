"""Rows taken by index out of columns of any type."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.selection import keep, take, take_values
from penstock.testing.batches import ARROW_TYPES, example

NESTED = {"list_of_views": pa.list_(pa.string_view()), "struct_of_views": pa.struct([("a", pa.binary_view())])}


@pytest.mark.parametrize("kind", [*ARROW_TYPES, *NESTED])
def test_rows_of_every_type_are_taken(kind: str) -> None:
    of = {**ARROW_TYPES, **NESTED}[kind]
    value = {"list_of_views": ["x"], "struct_of_views": {"a": b"x"}}.get(kind) or example(of)
    batch = pa.record_batch({"n": [0, 1, 2], "value": pa.array([value, None, value], of)})
    taken = take(batch, pa.array([2, 1, 2]))
    assert taken.schema == batch.schema
    assert taken.to_pylist() == [batch.to_pylist()[at] for at in (2, 1, 2)]
    kept = keep(batch, pa.array([True, True, None]))
    assert kept.to_pylist() == batch.to_pylist()[:2]


@given(st.lists(st.none() | st.integers(0, 9), max_size=20))
def test_any_indexes_give_the_same_for_views_as_for_texts(indexes: list[int | None]) -> None:
    texts = pa.array([str(n) for n in range(10)])
    rows = pa.array(indexes, pa.int64())
    assert take_values(texts.cast(pa.string_view()), rows).to_pylist() == texts.take(rows).to_pylist()
