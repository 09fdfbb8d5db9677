"""Columns into messages: the values of each column first, then a message for each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from ..delivery import Batch
from ..errors import PermanentError
from .schema import DURATION, TIMESTAMP, WRAPPERS, arrow_type, is_json, map_entry, single_type

_SECOND = 10**9


def write(message: Descriptor, batch: Batch) -> Iterator[Any]:
    """Yield a message for each row, without fields for nulls; columns that are no fields are left out."""
    make = GetMessageClass(message)
    fields = [field for field in message.fields if field.name in batch.schema.names]
    values = [_cells(field, batch.column(field.name)) for field in fields]
    names = [field.name for field in fields]
    for row in zip(*values, strict=True) if values else [()] * batch.num_rows:
        yield make(**{name: value for name, value in zip(names, row, strict=True) if value is not None})


def _cells(field: FieldDescriptor, column: pa.Array) -> list[Any]:
    """Return what the constructor of a message takes for each value of a column."""
    if pa.types.is_null(column.type):
        return [None] * len(column)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.offset:
        column = column.take(pa.array(range(len(column))))  # the items of other rows are left behind
    if entry := map_entry(field):
        if not pa.types.is_map(column.type):
            raise _unfit(field, column.type)
        keys, values = _items(entry[0], column.keys), _items(entry[1], column.items)
        return _apart(column, [*zip(keys, values, strict=True)], dict)
    if field.is_repeated:
        if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
            raise _unfit(field, column.type)
        return _apart(column, _items(field, column.values), list)
    return _items(field, column)


def _apart(column: pa.Array, items: list[Any], build: Callable[[Any], Any]) -> list[Any]:
    """Return the items of each row; raises PermanentError for a null among them, which no message can hold."""
    if any(item is None or (build is dict and None in item) for item in items):
        raise PermanentError("a list or map holds null, which Protobuf cannot")
    ends = column.offsets.to_pylist()
    return [
        build(items[start:end]) if valid else None
        for start, end, valid in zip(ends, ends[1:], column.is_valid().to_pylist(), strict=False)
    ]


def _items(field: FieldDescriptor, column: pa.Array) -> list[Any]:
    message = field.message_type
    single = single_type(field)
    if message is None:
        found: list[Any] = _cast(field, column, single).to_pylist()
        return found
    make = GetMessageClass(message)
    if message.full_name in (TIMESTAMP, DURATION):
        ticks = _cast(field, column, single).cast(pa.int64()).to_pylist()
        return [None if tick is None else _span(make, tick, message.full_name == DURATION) for tick in ticks]
    if message.full_name in WRAPPERS:
        return [None if one is None else make(value=one) for one in _cast(field, column, single).to_pylist()]
    if is_json(message):
        return [None if one is None else _from_json(make, one) for one in _cast(field, column, single).to_pylist()]
    if pa.types.is_null(column.type):
        return [None] * len(column)
    if not pa.types.is_struct(column.type):
        raise _unfit(field, column.type)
    rows = pa.RecordBatch.from_arrays(column.flatten(), names=[part.name for part in column.type])
    made = write(message, rows) if rows.num_columns else (make() for _ in range(len(column)))
    return [one if valid else None for one, valid in zip(made, column.is_valid().to_pylist(), strict=True)]


def _cast(field: FieldDescriptor, column: pa.Array, target: pa.DataType) -> pa.Array:
    """Return the values as the field holds them, exactly; raises PermanentError where it cannot."""
    if column.type == target:
        return column
    is_text = pa.types.is_string(target) or pa.types.is_binary(target)
    if is_text and not (is_textual(column.type) or pa.types.is_null(column.type)):
        raise _unfit(field, column.type)
    if pa.types.is_boolean(target) and not (pa.types.is_boolean(column.type) or pa.types.is_null(column.type)):
        raise _unfit(field, column.type)
    try:
        cast = column.cast(target)
        is_exact = pa.types.is_null(column.type) or cast.cast(column.type).equals(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise PermanentError(f"column `{field.name}`: expected {target}: {str(error)[:200]}") from error
    if not is_exact:
        raise PermanentError(f"column `{field.name}`: a value is not exactly one of {target}")
    return cast


def is_textual(kind: pa.DataType) -> bool:
    """Tell whether values of the type are text or bytes."""
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(texts or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _span(make: Any, ticks: int, is_duration: bool) -> Any:
    """A Duration has parts of one sign, the part of a Timestamp counts forward."""
    seconds, nanos = divmod(ticks, _SECOND)
    if is_duration and seconds < 0 and nanos:
        seconds, nanos = seconds + 1, nanos - _SECOND
    return make(seconds=seconds, nanos=nanos)


def _from_json(make: Any, text: str) -> Any:
    try:
        return json_format.Parse(text, make())
    except json_format.ParseError as error:
        raise PermanentError(f"this is no JSON of a {make.DESCRIPTOR.full_name}: {error}") from error


def _unfit(field: FieldDescriptor, kind: pa.DataType) -> PermanentError:
    return PermanentError(f"column `{field.name}`: expected {arrow_type(field)}, not {kind}")
