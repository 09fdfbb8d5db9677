"""The types of Avro and of Arrow, each as the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import date, datetime, time
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from ...delivery import Batch
from ...errors import PermanentError

_PRIMITIVES = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}
_NUMBERS = (pa.int32(), pa.int64(), pa.float32(), pa.float64())
_LOGICAL = {
    "uuid": pa.string(),
    "date": pa.date32(),
    "time-millis": pa.time32("ms"),
    "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("ms", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("ms"),
    "local-timestamp-micros": pa.timestamp("us"),
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_DEPTH = 48


def as_arrow(schema: Any) -> pa.Schema:
    """Return the columns of a parsed Avro schema; raises PermanentError if a type has no column."""
    kind = _column_type(schema, {}, 0)
    return pa.schema(list(kind) if pa.types.is_struct(kind) else [pa.field("value", kind)])


def _column_type(schema: Any, named: dict[str, Any], depth: int) -> pa.DataType:
    if depth > _MAX_DEPTH:
        raise PermanentError("the Avro schema contains itself, which no column type can")
    if isinstance(schema, list):
        return _union_type([_column_type(kind, named, depth) for kind in schema if kind != "null"])
    if isinstance(schema, str):
        return _PRIMITIVES[schema] if schema in _PRIMITIVES else _column_type(named[schema], named, depth + 1)
    kind, logical = schema["type"], schema.get("logicalType")
    if "name" in schema and kind in ("record", "error", "enum", "fixed"):
        named[schema["name"]] = schema
    if logical == "decimal":
        return pa.decimal128(schema["precision"], schema.get("scale", 0))
    if logical in _LOGICAL:
        return _LOGICAL[logical]
    if kind in ("record", "error"):
        return pa.struct([(field["name"], _column_type(field["type"], named, depth + 1)) for field in schema["fields"]])
    if kind == "array":
        return pa.list_(_column_type(schema["items"], named, depth + 1))
    if kind == "map":
        return pa.map_(pa.string(), _column_type(schema["values"], named, depth + 1))
    if kind == "fixed":
        return pa.binary(schema["size"])
    return pa.string() if kind == "enum" else _column_type(kind, named, depth + 1)


def _union_type(kinds: list[pa.DataType]) -> pa.DataType:
    """Return the only kind, or a struct with a member for each, of which a row fills one."""
    merged = dict.fromkeys(_merged(kind, kinds) for kind in kinds)
    if len(merged) <= 1:
        return next(iter(merged), pa.null())
    shapes = [_shape(kind) for kind in merged]
    if len(set(shapes)) < len(shapes) or ("map" in shapes and any(isinstance(shape, frozenset) for shape in shapes)):
        raise PermanentError(f"an Avro union of {', '.join(map(str, kinds))} has no column type")
    return pa.struct([(f"member{index}", kind) for index, kind in enumerate(merged)])


def _merged(kind: pa.DataType, kinds: list[pa.DataType]) -> pa.DataType:
    """Return the type that holds a kind and those of the others that are read as the same sort of value."""
    if len(set(kinds)) == 1:
        return kind
    if kind in _NUMBERS:
        numbers = [one for one in kinds if one in _NUMBERS]
        if len(numbers) == 1:
            return kind
        return pa.float64() if any(map(pa.types.is_floating, numbers)) else pa.int64()
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return pa.time64("us") if pa.types.is_time(kind) else kind


def _shape(kind: pa.DataType) -> Any:
    """What tells a value of this kind from those of other members; of a record it is its fields."""
    if pa.types.is_struct(kind):
        return frozenset(field.name for field in kind)
    if pa.types.is_timestamp(kind):
        return "timestamp", kind.tz is not None
    return next(name for name, (fits, _) in _SHAPES.items() if fits(kind))


_SHAPES: dict[str, tuple[Callable[[pa.DataType], bool], tuple[type, ...]]] = {
    "boolean": (pa.types.is_boolean, (bool,)),
    "number": (lambda kind: kind in _NUMBERS, (int, float)),
    "text": (pa.types.is_string, (str, UUID)),
    "bytes": (pa.types.is_binary, (bytes,)),
    "decimal": (pa.types.is_decimal, (Decimal,)),
    "date": (pa.types.is_date, (date,)),
    "time": (pa.types.is_time, (time,)),
    "map": (pa.types.is_map, (dict,)),
    "list": (pa.types.is_list, (list,)),
}


def _shape_of(value: Any, shapes: Collection[Any]) -> Any:
    if isinstance(value, dict):
        return "map" if "map" in shapes else frozenset(value)
    if isinstance(value, datetime):
        return "timestamp", value.tzinfo is not None
    return next((name for name, (_, types) in _SHAPES.items() if isinstance(value, types)), None)


def as_items(value: Any, kind: pa.DataType) -> Any:
    """Return a value that was read from Avro in the form in which Arrow takes it: maps as pairs, ids as text."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        return [(key, as_items(item, kind.item_type)) for key, item in value.items()]
    if pa.types.is_struct(kind):
        if not isinstance(value, dict) or value.keys() != {field.name for field in kind}:
            return _as_member(value, kind)
        return {field.name: as_items(value[field.name], field.type) for field in kind}
    if pa.types.is_list(kind):
        return [as_items(item, kind.value_type) for item in value]
    return str(value) if pa.types.is_string(kind) else value


def _as_member(value: Any, union: pa.StructType) -> dict[str, Any]:
    members = {_shape(field.type): field for field in union}
    field = members[_shape_of(value, members)]
    return {field.name: as_items(value, field.type)}


def from_arrow(schema: pa.Schema) -> dict[str, Any]:
    """Return an Avro record of nullable fields; raises PermanentError if a column has no Avro type."""
    numbers = count(1)
    return _record("row", schema, lambda: f"record_{next(numbers)}")


def _record(name: str, fields: Any, next_name: Callable[[], str]) -> dict[str, Any]:
    found = []
    for field in fields:
        if not _NAME.fullmatch(field.name):
            raise PermanentError(
                f"column `{field.name}` cannot be written as Avro: expected a name of letters and digits"
            )
        kind = _avro_type(_nearest(field.type, field.name), next_name)
        found.append({"name": field.name, "type": kind if kind == "null" else ["null", kind]})
    return {"type": "record", "name": name, "fields": found}


_LOGICAL_NAMES = {kind: name for name, kind in _LOGICAL.items() if name != "uuid"}
_NAMES = {kind: name for name, kind in _PRIMITIVES.items()}


def _avro_type(kind: pa.DataType, next_name: Callable[[], str]) -> Any:
    if kind in _NAMES:
        return _NAMES[kind]
    if kind in _LOGICAL_NAMES:
        base = "int" if kind in (pa.date32(), pa.time32("ms")) else "long"
        return {"type": base, "logicalType": _LOGICAL_NAMES[kind]}
    if pa.types.is_decimal(kind):
        return {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
    if pa.types.is_struct(kind):
        return _record(next_name(), kind, next_name)
    inner = _avro_type(kind.item_type if pa.types.is_map(kind) else kind.value_type, next_name)
    inner = inner if inner == "null" else ["null", inner]
    return {"type": "map", "values": inner} if pa.types.is_map(kind) else {"type": "array", "items": inner}


def _nearest(kind: pa.DataType, path: str) -> pa.DataType:
    """Return the type with an Avro counterpart that holds every value of this one, or refuses those it cannot."""
    types = pa.types
    if kind in _NAMES or kind in _LOGICAL_NAMES or types.is_decimal128(kind):
        return kind
    if types.is_dictionary(kind):
        return _nearest(kind.value_type, path)
    if types.is_integer(kind):
        return pa.int64() if kind.bit_width == 64 or kind == pa.uint32() else pa.int32()
    if types.is_float16(kind):
        return pa.float32()
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind) or types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_timestamp(kind):
        return pa.timestamp("ms" if kind.unit in ("s", "ms") else "us", "UTC" if kind.tz else None)
    if types.is_time(kind):
        return pa.time32("ms") if kind == pa.time32("s") else pa.time64("us")
    if types.is_date(kind):
        return pa.date32()
    if types.is_struct(kind):
        return pa.struct([field.with_type(_nearest(field.type, f"{path}.{field.name}")) for field in kind])
    if types.is_map(kind) and (types.is_string(kind.key_type) or types.is_large_string(kind.key_type)):
        return pa.map_(pa.string(), _nearest(kind.item_type, path))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(_nearest(kind.value_type, f"{path}[]"))
    raise PermanentError(f"column `{path}` of type {kind} cannot be written as Avro: it has no such type")


def writable(batch: Batch) -> Batch:
    """Return the batch in types that Avro has; raises PermanentError if a value does not fit."""
    arrays = []
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        kind = _nearest(array.type, name)
        try:
            arrays.append(pc.cast(array, kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise PermanentError(f"column `{name}` of type {array.type} cannot be written as Avro: {error}") from error
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names) if arrays else batch
