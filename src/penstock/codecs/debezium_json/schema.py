"""The schemas that Kafka Connect writes beside JSON payloads: which Arrow type each value has, and how it is read."""

from __future__ import annotations

import base64
import decimal
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import pyarrow as pa

from ...delivery import Batch
from ...errors import PermanentError

MAX_SCHEMAS = 1000
"""How many schemas are remembered, the last used."""
MAX_PRECISION = 76
"""Digits of the largest decimal that Arrow has."""
_EXACT = decimal.Context(prec=MAX_PRECISION, traps=[decimal.Inexact, decimal.InvalidOperation])

Convert = Callable[[Any], Any]


class Part(msgspec.Struct):
    """The schema of a value, as Kafka Connect writes it."""

    type: str
    field: str = ""
    name: str | None = None
    fields: list[Part] = []
    items: Part | None = None
    keys: Part | None = None
    values: Part | None = None
    parameters: dict[str, str] = {}


class Kind:
    """The Arrow type of a value, and how to convert it; None where it is right as it stands."""

    __slots__ = ("convert", "type")

    def __init__(self, type: pa.DataType, convert: Convert | None = None) -> None:
        self.type, self.convert = type, convert

    def __call__(self, value: Any) -> Any:
        """Return a value as Arrow takes it."""
        return value if value is None or self.convert is None else self.convert(value)


class Schema:
    """The rows of a table."""

    def __init__(self, row: Part) -> None:
        self._kinds = {field.field: _kind(field) for field in row.fields}
        self.type = pa.struct([pa.field(name, kind.type) for name, kind in self._kinds.items()])

    def structs(self, rows: Sequence[bytes]) -> pa.StructArray:
        """Return rows as structs, null where there is none; raises PermanentError for a value of another kind."""
        found: list[Any] = [_decode(row) for row in rows]
        is_absent = pa.array([row is None for row in found])
        arrays = []
        for name, kind in self._kinds.items():
            try:
                values = [None if row is None else kind(row.get(name)) for row in found]
                arrays.append(pa.array(values, kind.type))
            except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, pa.ArrowException) as error:
                raise PermanentError(f"column {name!r} of a change event: {str(error)[:200]}") from error
        if not arrays:
            return pa.array([None if row is None else {} for row in found], self.type)
        return pa.StructArray.from_arrays(arrays, fields=list(self.type), mask=is_absent)

    def read(self, rows: Sequence[bytes]) -> Batch:
        """Return rows as columns."""
        structs = self.structs(rows)
        if not self._kinds:
            return pa.RecordBatch.from_struct_array(structs)
        return pa.RecordBatch.from_arrays(structs.flatten(), schema=pa.schema(list(self.type)))


@lru_cache(maxsize=MAX_SCHEMAS)
def find_schema(text: bytes) -> Schema:
    """Return the schema of the rows in an envelope's; raises PermanentError if it has none."""
    try:
        envelope = msgspec.json.decode(text, type=Part)
        row = next((field for field in envelope.fields if field.field in ("after", "before") and field.fields), None)
        if row is None:
            raise PermanentError("the schema of the change event has no `after` and no `before`")
        return Schema(row)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PermanentError(f"the schema of the change event: {str(error)[:200]}") from error


def _decode(row: bytes) -> dict[str, Any] | None:
    try:
        # Numbers with a fraction keep their digits until it is known of what kind they are.
        return msgspec.json.decode(row, type=dict[str, Any] | None)
    except msgspec.MsgspecError as error:
        raise PermanentError(f"the row of a change event: {str(error)[:200]}") from error


def _kind(part: Part) -> Kind:
    if part.name is not None and (named := _NAMED.get(part.name)) is not None:
        return named(part)
    if part.type == "struct":
        inner = {field.field: _kind(field) for field in part.fields}
        kind = pa.struct([pa.field(name, one.type) for name, one in inner.items()])
        return Kind(kind, lambda value: {name: one(value.get(name)) for name, one in inner.items()})
    if part.type == "array":
        item = _kind(_given(part.items))
        return Kind(pa.list_(item.type), lambda values: [item(value) for value in values])
    if part.type == "map":
        return _map(_kind(_given(part.keys)), _kind(_given(part.values)))
    if part.type not in _PLAIN:
        raise ValueError(f"{part.type!r} is not a type of Kafka Connect")
    return _PLAIN[part.type]


def _given(part: Part | None) -> Part:
    if part is None:
        raise ValueError("an array or a map does not say what it holds")
    return part


def _map(key: Kind, value: Kind) -> Kind:
    def convert(found: Any) -> list[tuple[Any, Any]]:
        pairs = found.items() if isinstance(found, dict) else found
        return [(key(one), value(other)) for one, other in pairs]

    return Kind(pa.map_(key.type, value.type), convert)


def _unscaled(text: str) -> int:
    return int.from_bytes(base64.b64decode(text, validate=True), "big", signed=True)


def _decimal(part: Part) -> Kind:
    """A decimal in base64, of as many digits as the column has; without a number of them of as many as there are."""
    scale = int(part.parameters.get("scale", 0))
    digits = int(part.parameters.get("connect.decimal.precision", MAX_PRECISION))
    precision = min(max(digits, scale, 1), MAX_PRECISION)
    kind = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)

    def convert(value: Any) -> decimal.Decimal:
        if isinstance(value, int | float):
            raise ValueError(f"expected a decimal in base64, not the number {value!r}")
        try:
            return decimal.Decimal(_unscaled(value)).scaleb(-scale, _EXACT)
        except ValueError:  # decimal.handling.mode is string
            return decimal.Decimal(value)

    return Kind(kind, convert)


def _variable_decimal(part: Part) -> Kind:
    """A decimal whose scale each value tells: text, so that no digit is lost."""
    return Kind(
        pa.string(), lambda value: f"{decimal.Decimal(_unscaled(value['value'])).scaleb(-value['scale'], _EXACT):f}"
    )


def _zoned(value: str) -> int:
    """Return a time with a zone in microseconds; raises ValueError if it has a finer part."""
    found: int = pa.scalar(value).cast(pa.timestamp("us", "UTC")).value
    return found


_PLAIN = {
    "int8": Kind(pa.int8()),
    "int16": Kind(pa.int16()),
    "int32": Kind(pa.int32()),
    "int64": Kind(pa.int64()),
    "float": Kind(pa.float32(), float),
    "float32": Kind(pa.float32(), float),
    "double": Kind(pa.float64(), float),
    "float64": Kind(pa.float64(), float),
    "boolean": Kind(pa.bool_()),
    "string": Kind(pa.string()),
    "bytes": Kind(pa.binary(), lambda text: base64.b64decode(text, validate=True)),
}


def _always(type: pa.DataType, convert: Convert | None = None) -> Callable[[Part], Kind]:
    kind = Kind(type, convert)
    return lambda part: kind


_NAMED: dict[str, Callable[[Part], Kind]] = {
    "org.apache.kafka.connect.data.Decimal": _decimal,
    "io.debezium.data.VariableScaleDecimal": _variable_decimal,
    "org.apache.kafka.connect.data.Date": _always(pa.date32()),
    "io.debezium.time.Date": _always(pa.date32()),
    "org.apache.kafka.connect.data.Time": _always(pa.time32("ms")),
    "io.debezium.time.Time": _always(pa.time32("ms")),
    "io.debezium.time.MicroTime": _always(pa.time64("us")),
    "io.debezium.time.NanoTime": _always(pa.time64("ns")),
    "org.apache.kafka.connect.data.Timestamp": _always(pa.timestamp("ms")),
    "io.debezium.time.Timestamp": _always(pa.timestamp("ms")),
    "io.debezium.time.MicroTimestamp": _always(pa.timestamp("us")),
    "io.debezium.time.NanoTimestamp": _always(pa.timestamp("ns")),
    "io.debezium.time.ZonedTimestamp": _always(pa.timestamp("us", "UTC"), _zoned),
    "io.debezium.time.MicroDuration": _always(pa.duration("us")),
}
"""What a value means beyond its type; other names (JSON, UUID, enum, year) mean nothing for it."""
