"""Rows as plain Python values, for formats that carry their own types, and columns made of such rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .. import iso8601
from ..absence import mark, shapes_of, without
from ..delivery import Batch, Decoder
from ..errors import PermanentError
from ..metadata import ABSENT

_MAX_DIGITS = 76
_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""How many nanoseconds each unit of Arrow has."""
_KINDS = {
    bool: "true or false",
    int: "whole numbers",
    float: "numbers",
    Decimal: "decimals",
    str: "texts",
    bytes: "bytes",
    date: "dates",
    list: "lists",
    dict: "maps",
}


class Moment(NamedTuple):
    """A moment in UTC, exact to the nanosecond."""

    ns: int
    """Nanoseconds since 1970."""


def plain_rows(batch: Batch) -> list[dict[str, Any]]:
    """Return the rows as dictionaries of None, bool, int, float, Decimal, str, bytes, date, Moment, list and dict.

    Times of day, durations and local times are texts in ISO 8601. A row has no key for a column that it lacks. Raises
    PermanentError for what is none of these.
    """
    names = [name for name in batch.schema.names if name != ABSENT]
    columns = [_plain(batch.column(name), name) for name in names]
    rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    shapes = shapes_of(batch)
    lacks = {} if shapes is None else {name: shapes.lacking(name) for name in names}
    for name, lacking in lacks.items():
        for at in np.flatnonzero(lacking) if lacking is not None else ():
            del rows[at][name]
    return rows or [{}] * batch.num_rows


def _plain(column: pa.Array, name: str) -> list[Any]:
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        ticks, unit = column.cast(pa.int64()).to_pylist(), _UNITS[kind.unit]
        return [None if tick is None else Moment(tick * unit) for tick in ticks]
    if pa.types.is_timestamp(kind):
        return iso8601.timestamps(column).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_time(kind):
        return iso8601.times(column).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_duration(kind):
        return iso8601.durations(column).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary_decode(), name)
    if pa.types.is_struct(kind):
        fields = [_plain(child, name) for child in column.flatten()]
        rows = zip(*fields, strict=True) if fields else iter([()] * len(column))
        names, each = [field.name for field in kind], zip(rows, column.is_valid().to_pylist(), strict=True)
        return [dict(zip(names, row, strict=True)) if is_there else None for row, is_there in each]
    if pa.types.is_map(kind):
        found = column.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
        return [None if pairs is None else _dictionary(pairs, name) for pairs in _plain(found, name)]
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        lengths = pc.list_value_length(column).to_pylist()
        items = iter(_plain(column.flatten(), name))
        return [None if length is None else [next(items) for _ in range(length)] for length in lengths]
    if pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.to_pylist()  # type: ignore[no-any-return]
    if str(kind).removeprefix("large_").startswith(("string", "binary", "fixed_size_binary", "decimal", "date")):
        return column.to_pylist()  # type: ignore[no-any-return]
    raise PermanentError(f"column {name!r} is {kind}, which this format has no type for")


def _dictionary(pairs: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    found = {pair["key"]: pair["value"] for pair in pairs}
    if len(found) < len(pairs):
        raise PermanentError(f"column {name!r}: a map has the same key twice")
    if not all(isinstance(key, str) for key in found):
        raise PermanentError(f"column {name!r}: a map has keys that are not texts")
    return found


def decoder(read: Callable[[bytes], Any], wanted: frozenset[str] | None = None) -> Decoder:
    """Return a decoder that keeps the types it has learned; ``read`` returns what a payload is, or raises.

    Raises PermanentError for a payload that is not a map of texts to values, or whose values fit no column.
    """
    return columns_decoder(lambda payload: [_row(read, payload)], wanted)


def columns_decoder(
    read_rows: Callable[[bytes], Iterable[dict[str, Any]]], wanted: frozenset[str] | None = None
) -> Decoder:
    """Return a decoder of payloads of any number of rows, which ``read_rows`` yields or raises."""
    known: dict[str, pa.DataType] = {}
    lock = threading.Lock()

    def decode(payloads: pa.BinaryArray) -> Batch:
        rows = [row for payload in payloads.to_pylist() for row in read_rows(payload)]
        try:
            with lock:
                learned = dict(known)
            found = _columns(rows, learned, wanted)
            with lock:
                for field in without(found).schema:
                    known[field.name] = merge(known.get(field.name, pa.null()), field.type) or field.type
        except RecursionError as error:
            raise PermanentError("a value is nested too deeply, or contains itself") from error
        return found

    return decode


def _row(read: Callable[[bytes], Any], payload: bytes) -> dict[str, Any]:
    found = read(payload)
    if not isinstance(found, dict):
        raise PermanentError(f"expected a map, found {_kind_of(found)}")
    return found


def _columns(rows: Sequence[dict[str, Any]], known: dict[str, pa.DataType], wanted: frozenset[str] | None) -> Batch:
    names: dict[str, None] = {name: None for name in known if wanted is None or name in wanted}
    for row in rows:
        for name in row:
            if not isinstance(name, str):
                raise PermanentError(f"expected texts as keys, found {_kind_of(name)}")
            if name != ABSENT and (wanted is None or name in wanted):
                names[name] = None
    arrays, masks = [], {}
    for name in names:
        values = [row.get(name) for row in rows]
        kind = merge(known.get(name, pa.null()), arrow_type(values, name)) or arrow_type(values, name)
        arrays.append(_array(values, kind, name))
        masks[name] = np.fromiter((name not in row for row in rows), np.bool_, len(rows))
    if not arrays:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(rows), pa.struct([])))
    return mark(pa.RecordBatch.from_arrays(arrays, names=list(names)), masks)


def _array(values: Sequence[Any], kind: pa.DataType, name: str) -> pa.Array:
    try:
        return pa.array([_item(value, kind) for value in values], kind)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise PermanentError(f"column {name!r}: {str(error)[:240]}") from error


def _item(value: Any, kind: pa.DataType) -> Any:
    """Return a value as pyarrow takes it for a type."""
    if value is None:
        return None
    if isinstance(value, Moment) and pa.types.is_timestamp(kind):
        return value.ns // _UNITS[kind.unit]
    if pa.types.is_list(kind):
        return [_item(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {field.name: _item(value.get(field.name), field.type) for field in kind}
    if pa.types.is_floating(kind):
        return _exact(value)
    return Decimal(value) if pa.types.is_decimal(kind) else value


def _exact(value: Any) -> float:
    number = float(value)
    if isinstance(value, int) and int(number) != value:
        raise PermanentError(f"{value} is beside fractions, and not exact as one")
    return number


def arrow_type(values: Sequence[Any], name: str) -> pa.DataType:
    """Return the narrowest type that holds all values exactly; raises PermanentError if there is none."""
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if not kinds:
        return pa.null()
    if kinds == {int}:
        return _integer(present, name)
    if kinds in ({float}, {float, int}):
        return pa.float64()
    if kinds in ({Decimal}, {Decimal, int}):
        return _decimal(present, name)
    if kinds == {Moment}:
        is_fine = any(moment.ns % 1000 for moment in present)
        return pa.timestamp("ns" if is_fine else "us", "UTC")
    if kinds == {list}:
        return pa.list_(arrow_type([item for each in present for item in each], name))
    if kinds == {dict}:
        return pa.struct(list(_fields(present, name)))
    simple = {bool: pa.bool_(), str: pa.string(), bytes: pa.binary(), date: pa.date32()}
    if len(kinds) == 1 and (kind := next(iter(kinds))) in simple:
        return simple[kind]
    found = " and ".join(sorted(_KINDS.get(kind, kind.__name__) for kind in kinds))
    raise PermanentError(f"column {name!r} holds {found}, which no column can")


def _fields(present: Sequence[dict[Any, Any]], name: str) -> Iterator[pa.Field]:
    keys: dict[Any, None] = {}
    for value in present:
        keys.update(dict.fromkeys(value))
    for key in keys:
        if not isinstance(key, str):
            raise PermanentError(f"column {name!r}: expected texts as keys, found {_kind_of(key)}")
        yield pa.field(key, arrow_type([value.get(key) for value in present], f"{name}.{key}"))


def _integer(present: Sequence[int], name: str) -> pa.DataType:
    low, high = min(present), max(present)
    if low >= -(2**63) and high < 2**63:
        return pa.int64()
    if low >= 0 and high < 2**64:
        return pa.uint64()
    return _decimal(present, name)


def _decimal(present: Sequence[int | Decimal], name: str) -> pa.DataType:
    whole = scale = 0
    for value in present:
        if isinstance(value, Decimal) and not value.is_finite():
            raise PermanentError(f"column {name!r} holds the decimal {value}, which no column can")
        if isinstance(value, int):
            whole = max(whole, len(str(abs(value))) if abs(value) < 10**_MAX_DIGITS else _MAX_DIGITS + 1)
            continue
        exponent = value.as_tuple().exponent
        assert isinstance(exponent, int)
        whole, scale = max(whole, value.adjusted() + 1), max(scale, -exponent)
    if whole + scale > _MAX_DIGITS:
        raise PermanentError(f"column {name!r} holds a number of more than {_MAX_DIGITS} digits")
    return pa.decimal128(38, scale) if whole + scale <= 38 else pa.decimal256(_MAX_DIGITS, scale)


def merge(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of both; None if there is none."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_list(one) and pa.types.is_list(other):
        inner = merge(one.value_type, other.value_type)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _merge_structs(one, other)
    if pa.types.is_timestamp(one) and pa.types.is_timestamp(other):
        return one if one.unit == "ns" else other
    numbers = [kind for kind in (one, other) if pa.types.is_integer(kind)]
    if len(numbers) == 1 and (pa.types.is_floating(one) or pa.types.is_floating(other)):
        return pa.float64()
    return None


def _merge_structs(one: pa.StructType, other: pa.StructType) -> pa.DataType | None:
    fields = {field.name: field.type for field in one}
    for field in other:
        merged = merge(fields.get(field.name, pa.null()), field.type)
        if merged is None:
            return None
        fields[field.name] = merged
    return pa.struct(list(fields.items()))


def _kind_of(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)
