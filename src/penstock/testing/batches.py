"""Batches to test with: plain samples, one of each Arrow type, and hypothesis strategies over a domain of types."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from ..delivery import Batch

ARROW_TYPES: Mapping[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "decimal128": pa.decimal128(18, 4),
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "binary": pa.binary(),
    "date32": pa.date32(),
    "time64": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamp_ns": pa.timestamp("ns"),
    "timestamp_utc": pa.timestamp("us", "UTC"),
    "duration": pa.duration("us"),
    "list": pa.list_(pa.int64()),
    "struct": pa.struct([("a", pa.int64()), ("b", pa.string())]),
    "map": pa.map_(pa.string(), pa.int64()),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
}
"""One of each kind of Arrow type that batches carry, by the name suites and their harnesses call it."""

JSON_TYPES: Sequence[pa.DataType] = (pa.bool_(), pa.int64(), pa.float64(), pa.string())
"""Types whose values survive JSON, unless there is NaN or infinity among them."""


_FLOATS = (0.0, -0.0, 1.0, -(2.0**31), 2.0**53, 2.0**60, 2.0**80, 2.0**-20, 2.0**-120)
_TEXTS = ("", " ", "null", "true", "1", "1e5", '"', "\\", "\n", "\r\n", "\t", "\x00", "\u2028", "é", "😀", "{}", "a,b")
"""What formats tend to get wrong, and chance is slow to find."""


def sample(start: int = 0, rows: int = 3) -> Batch:
    """Return rows ``start`` and on of a table that never ends: ``id``, ``name`` and ``value``, the same each time."""
    numbers = range(start, start + rows)
    return pa.record_batch(
        {
            "id": pa.array(numbers, pa.int64()),
            "name": pa.array([f"name {number}" for number in numbers], pa.string()),
            "value": pa.array([number / 4 for number in numbers], pa.float64()),
        }
    )


def example(kind: pa.DataType) -> Any:
    """Return one value of a type, as Python has it."""
    moment = datetime.datetime(2024, 2, 29, 12, 30, 15, 250000)
    if pa.types.is_boolean(kind):
        return True
    if pa.types.is_integer(kind):
        return 7
    if pa.types.is_floating(kind):
        return 0.5
    if pa.types.is_decimal(kind):
        return decimal.Decimal("12.3400")
    if pa.types.is_date(kind):
        return moment.date()
    if pa.types.is_time(kind):
        return moment.time()
    if pa.types.is_timestamp(kind):
        return moment.replace(tzinfo=datetime.UTC) if kind.tz else moment
    if pa.types.is_duration(kind):
        return datetime.timedelta(seconds=90)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return b"\x00\xffbytes"
    if pa.types.is_map(kind):
        return [("k", example(kind.item_type))]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [example(kind.value_type), example(kind.value_type)]
    if pa.types.is_struct(kind):
        return {kind.field(i).name: example(kind.field(i).type) for i in range(kind.num_fields)}
    return "tëxt '\"; --"


def of_type(kind: pa.DataType) -> Batch:
    """Return three rows: ``id``, and ``value`` of the given type, null in the second row."""
    value = example(kind)
    return pa.record_batch({"id": pa.array([1, 2, 3], pa.int64()), "value": pa.array([value, None, value], kind)})


def rows_of(batch: pa.RecordBatch | pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a batch as dictionaries that compare; timestamps in nanoseconds as numbers."""
    for at, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            batch = batch.set_column(at, field.name, batch.column(at).cast(pa.int64()))
    return [plain(row) for row in batch.to_pylist()]


def plain(value: Any) -> Any:
    """Return a value in a form that compares: NaN equal to itself, dictionaries without their null entries."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def values(kind: pa.DataType, *, finite: bool = True) -> st.SearchStrategy[Any]:
    """Return a strategy for values of one type."""
    if pa.types.is_boolean(kind):
        return st.booleans()
    if pa.types.is_integer(kind):
        signed = pa.types.is_signed_integer(kind)
        top = 2 ** (kind.bit_width - signed)
        return st.integers(-top if signed else 0, top - 1)
    if pa.types.is_floating(kind):
        return st.sampled_from(_FLOATS) | st.floats(
            width=kind.bit_width, allow_nan=not finite, allow_infinity=not finite
        )
    if pa.types.is_decimal(kind):
        top = decimal.Decimal(10) ** (kind.precision - kind.scale) - 1
        return st.decimals(-top, top, places=kind.scale, allow_nan=False, allow_infinity=False)
    if pa.types.is_date(kind):
        return st.dates()
    if pa.types.is_time(kind):
        return st.times()
    if pa.types.is_timestamp(kind):
        zone: st.SearchStrategy[Any] = st.just(datetime.UTC) if kind.tz else st.none()
        years = {"min_value": datetime.datetime(1700, 1, 1), "max_value": datetime.datetime(2250, 1, 1)}
        return st.datetimes(**years, timezones=zone)
    if pa.types.is_duration(kind):
        return st.timedeltas(datetime.timedelta(days=-10_000), datetime.timedelta(days=10_000))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return st.binary(max_size=20)
    if pa.types.is_map(kind):
        items = st.dictionaries(values(kind.key_type), values(kind.item_type, finite=finite), max_size=3)
        return items.map(lambda found: list(found.items()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return st.lists(values(kind.value_type, finite=finite), max_size=3)
    if pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return st.fixed_dictionaries({field.name: values(field.type, finite=finite) for field in fields})
    return st.sampled_from(_TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def batches(
    draw: st.DrawFn,
    types: Sequence[pa.DataType] = JSON_TYPES,
    *,
    min_rows: int = 1,
    max_rows: int = 8,
    max_columns: int = 5,
    nulls: bool = True,
    finite: bool = True,
    names: st.SearchStrategy[str] | None = None,
) -> Batch:
    """Draw batches with columns of ``types``; names are short words unless a strategy for them is given."""
    names = names or st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True)
    columns = draw(st.lists(names, min_size=1, max_size=max_columns, unique=True))
    rows = draw(st.integers(min_rows, max_rows))
    arrays = []
    for _ in columns:
        kind = draw(st.sampled_from(list(types)))
        cell = values(kind, finite=finite)
        cells = draw(st.lists(st.none() | cell if nulls else cell, min_size=rows, max_size=rows))
        arrays.append(pa.array(cells, kind))
    return pa.RecordBatch.from_arrays(arrays, names=columns)
