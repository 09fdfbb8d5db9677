"""Tables as files: what a column is, is known from all of its values."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.platform.tables.files import BATCH_SIZE, write

EARLY, LATE = BATCH_SIZE + 1, 2 * BATCH_SIZE


@pytest.mark.parametrize(
    ("first", "then", "kind", "found"),
    [
        (None, 7, pa.int64(), (None, 7)),
        (1, 2.5, pa.float64(), (1.0, 2.5)),
        (1, "n/a", pa.string(), ("1", "n/a")),
        (True, None, pa.bool_(), (True, None)),
        (True, 3, pa.string(), ("True", "3")),
        (b"\x00", "x", pa.string(), ("\\x00", "x")),
        (1, 2**70, pa.string(), ("1", str(2**70))),
        (None, None, pa.string(), (None, None)),
    ],
)
def test_a_later_value_of_another_kind_widens_the_column(first: Any, then: Any, kind: Any, found: Any) -> None:
    made = b"".join(write("parquet", ["a", "b"], [*[(first, 1)] * EARLY, *[(then, 2)] * LATE]))
    table = pq.read_table(io.BytesIO(made))
    assert table.schema.field("a").type == kind
    assert (table["a"][0].as_py(), table["a"][-1].as_py(), len(table)) == (*found, EARLY + LATE)
    assert table["b"].to_pylist() == [1] * EARLY + [2] * LATE


def test_a_table_without_rows_has_its_columns() -> None:
    assert pq.read_table(io.BytesIO(b"".join(write("parquet", ["a", "a"], [])))).column_names == ["a", "a_2"]
