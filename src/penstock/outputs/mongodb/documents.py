"""Rows as BSON documents: every Arrow type has one form, whatever the row."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from ... import iso8601
from ...absence import shapes_of
from ...delivery import Batch
from ...errors import PermanentError
from ...metadata import without_metadata
from ..sql.columns import is_binary, is_text, plain

MAX_INT64 = 2**63 - 1
_PER_MILLISECOND = {"s": 1000, "ms": 1, "us": -1000, "ns": -1_000_000}
"""What a unit is multiplied by, or, if negative, divided by."""


def documents(batch: Batch, *, decimals_as_text: bool) -> Iterator[dict[str, Any]]:
    """Return one document for each row; fields that a row lacks are left out, and nulls are there as null."""
    content = without_metadata(batch)
    names = content.schema.names
    if len(set(names)) < len(names):
        raise PermanentError("two columns have the same name, and a document has each name once")
    if any("\x00" in name for name in names):
        raise PermanentError("the name of a column has a NUL character, which no field of a document has")
    columns = [_values(content.column(at), decimals_as_text) for at in range(content.num_columns)]
    rows = zip(*columns, strict=True) if columns else iter([()] * batch.num_rows)
    shapes = shapes_of(batch)
    if shapes is None:
        yield from (dict(zip(names, row, strict=True)) for row in rows)
        return
    for code, row in zip(shapes.codes.tolist(), rows, strict=True):
        absent = shapes.absent[code]
        yield {name: value for name, value in zip(names, row, strict=True) if value is not None or name not in absent}


def _values(array: pa.Array, decimals_as_text: bool) -> Sequence[Any]:
    """Return the values as pymongo encodes them."""
    array = plain(array)
    kind = array.type
    if is_.is_nested(kind):
        return _nested(array, decimals_as_text)
    convert = next((made for fits, made in _CONVERSIONS if fits(kind)), None)
    if convert is None:
        raise PermanentError(f"a column of type {kind} cannot be written to MongoDB")
    if convert is _decimals:
        return _decimals(array, decimals_as_text)
    return convert(array)


def _nested(array: pa.Array, decimals_as_text: bool) -> Sequence[Any]:
    kind = array.type
    if is_.is_struct(kind):
        names = [kind.field(at).name for at in range(kind.num_fields)]
        fields = [_values(each, decimals_as_text) for each in array.flatten()]
        rows = zip(*fields, strict=True) if fields else iter([()] * len(array))
        valid = array.is_valid().to_pylist()
        return [dict(zip(names, row, strict=True)) if there else None for there, row in zip(valid, rows, strict=True)]
    found: list[Any] = []
    if is_.is_map(kind):
        for scalar in array:
            entries = scalar.values if scalar.is_valid else None
            found.append(None if entries is None else _entries(entries, decimals_as_text))
        return found
    if is_.is_union(kind):
        raise PermanentError(f"a column of type {kind} cannot be written to MongoDB")
    lengths = pc.list_value_length(array).to_pylist()
    items = iter(_values(pc.list_flatten(array), decimals_as_text))
    return [None if length is None else [next(items) for _ in range(length)] for length in lengths]


def _entries(entries: pa.StructArray, decimals_as_text: bool) -> dict[str, Any]:
    keys = entries.field(0)
    texts = keys if is_text(keys.type) else iso8601.plain(keys).cast(pa.string())
    return dict(zip(texts.to_pylist(), _values(entries.field(1), decimals_as_text), strict=True))


def _as_they_are(array: pa.Array) -> Sequence[Any]:
    found: list[Any] = array.to_pylist()
    return found


def _unsigned(array: pa.Array) -> Sequence[Any]:
    from bson.decimal128 import Decimal128

    return [value if value is None or value <= MAX_INT64 else Decimal128(str(value)) for value in array.to_pylist()]


def _decimals(array: pa.Array, as_text: bool = False) -> Sequence[Any]:
    from bson.decimal128 import Decimal128

    if as_text:
        return _as_they_are(array.cast(pa.string()))
    if array.type.precision > 34:
        raise PermanentError(f"{array.type} has more than the 34 digits of a decimal of MongoDB: set `decimals: text`")
    return [None if value is None else Decimal128(value) for value in array.to_pylist()]


def _moments(array: pa.Array) -> Sequence[Any]:
    """Milliseconds since 1970; what is finer is cut off."""
    from bson.datetime_ms import DatetimeMS

    if is_.is_date(array.type):
        array = array.cast(pa.timestamp("s"))
    factor = _PER_MILLISECOND[array.type.unit]
    counts = array.cast(pa.int64()).to_pylist()
    if factor > 0:
        return [None if count is None else DatetimeMS(count * factor) for count in counts]
    return [None if count is None else DatetimeMS(count // -factor) for count in counts]


def _times(array: pa.Array) -> Sequence[Any]:
    return _as_they_are(iso8601.plain(array).cast(pa.string()))


def _counts(array: pa.Array) -> Sequence[Any]:
    return _as_they_are(array.cast(pa.int64()))


_CONVERSIONS: Sequence[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], Sequence[Any]]]] = (
    (is_.is_null, _as_they_are),
    (is_.is_boolean, _as_they_are),
    (is_.is_uint64, _unsigned),
    (is_.is_integer, _as_they_are),
    (is_.is_floating, _as_they_are),
    (is_.is_decimal, _decimals),
    (is_text, _as_they_are),
    (is_binary, lambda array: _as_they_are(array.cast(pa.binary()))),
    (is_.is_date, _moments),
    (is_.is_timestamp, _moments),
    (is_.is_time, _times),
    (is_.is_duration, _counts),
)


def new_id() -> Any:
    """Return an id for a document whose row has none."""
    from bson import ObjectId

    return ObjectId()


def is_scalar(value: object) -> bool:
    """Tell whether a value is compared as a whole in a filter: no document, in which operators could be."""
    return value is not None and not isinstance(value, dict | list | uuid.UUID)
