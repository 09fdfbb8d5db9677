"""Messages into columns: one pass over all messages for each field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from ..delivery import Batch
from ..errors import PermanentError
from .schema import DURATION, TIMESTAMP, WRAPPERS, Message, is_json, map_entry, single_type

_SECOND = 10**9
_NANOSECONDS = range(-(2**63) + 1, 2**63)


def read(message: Message, messages: Sequence[Any], wanted: frozenset[str] | None = None) -> Batch:
    """Return a row for each message, of the fields that anyone wants; raises PermanentError for a time out of range."""
    fields = [field for field in message.descriptor.fields if wanted is None or field.name.lower() in wanted]
    if not fields:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(messages), pa.struct([])))
    schema = pa.schema([message.schema.field(field.name) for field in fields])
    return pa.RecordBatch.from_arrays([_column(field, messages) for field in fields], schema=schema)


def _column(field: FieldDescriptor, messages: Sequence[Any]) -> pa.Array:
    take = attrgetter(field.name)
    if entry := map_entry(field):
        return _map_column(*entry, [take(message) for message in messages])
    if field.is_repeated:
        lists = [take(message) for message in messages]
        return pa.ListArray.from_arrays(_offsets(lists), _values(field, [one for items in lists for one in items]))
    if not field.has_presence:
        return _values(field, [*map(take, messages)])
    name = field.name
    return _values(field, [take(message) if message.HasField(name) else None for message in messages])


def _map_column(key: FieldDescriptor, value: FieldDescriptor, maps: Sequence[Any]) -> pa.Array:
    keys = [one for entries in maps for one in sorted(entries)]
    values = [entries[one] for entries in maps for one in sorted(entries)]
    return pa.MapArray.from_arrays(_offsets(maps), _values(key, keys), _values(value, values))


def _offsets(lists: Iterable[Any]) -> pa.Array:
    return pa.array(accumulate(map(len, lists), initial=0), pa.int32())


def _values(field: FieldDescriptor, values: list[Any]) -> pa.Array:
    """Return the values of a field that is not repeated, or the items of one that is."""
    message = field.message_type
    single = single_type(field)
    if message is None:
        return pa.array(values, single)
    convert = _CONVERTED.get(message.full_name) or (_as_json if is_json(message) else None)
    if message.full_name in WRAPPERS:
        convert = attrgetter("value")
    if convert is not None:
        return pa.array([None if value is None else convert(value) for value in values], single)
    return _structs(message, values, single)


def _structs(message: Descriptor, values: list[Any], kind: pa.StructType) -> pa.Array:
    missing = np.array([value is None for value in values], bool)
    if missing.any():
        empty = GetMessageClass(message)()
        values = [empty if value is None else value for value in values]
    if not kind.num_fields:
        return pa.array([None if is_null else {} for is_null in missing], kind)
    arrays = [_column(field, values) for field in message.fields]
    return pa.StructArray.from_arrays(arrays, fields=list(kind), mask=pa.array(missing))


def _nanoseconds(value: Any) -> int:
    """Return what a Timestamp or Duration holds; 64 bits reach from 1677 to 2262."""
    found: int = value.seconds * _SECOND + value.nanos
    if found not in _NANOSECONDS:
        raise PermanentError(f"{value.seconds} seconds are more than 64 bits of nanoseconds hold")
    return found


def _as_json(value: Any) -> str:
    try:
        return json_format.MessageToJson(value, indent=None, preserving_proto_field_name=True, ensure_ascii=False)
    except (json_format.Error, ValueError) as error:
        raise PermanentError(f"a {value.DESCRIPTOR.full_name} cannot be read as JSON: {error}") from error


_CONVERTED: dict[str, Callable[[Any], Any]] = {TIMESTAMP: _nanoseconds, DURATION: _nanoseconds}
