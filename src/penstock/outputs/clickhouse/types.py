"""The types of ClickHouse and those of Arrow, and what their values may be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from ...delivery import Batch
from ..sql.columns import Column, is_binary

_TYPES = {
    "Bool": pa.bool_(),
    **{f"Int{bits}": getattr(pa, f"int{bits}")() for bits in (8, 16, 32, 64)},
    **{f"UInt{bits}": getattr(pa, f"uint{bits}")() for bits in (8, 16, 32, 64)},
    "Float32": pa.float32(),
    "Float64": pa.float64(),
    "String": pa.string(),
    "Date": pa.date32(),
    "Date32": pa.date32(),
    "IntervalNanosecond": pa.duration("ns"),
    "IntervalMicrosecond": pa.duration("us"),
    "IntervalMillisecond": pa.duration("ms"),
    "IntervalSecond": pa.duration("s"),
}
_DAYS = {"Date": (0, 65_535), "Date32": (-25_567, 120_529)}
"""The first and the last day, counted from 1970, of the types of dates."""
_MAX_DATETIME = 2**32 - 1
_TEXTS = {
    "UUID": r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
    "IPv4": r"^\d{1,3}(\.\d{1,3}){3}$",
    "IPv6": r"^[0-9a-fA-F:.]+$",
    "Int128": r"^-?\d{1,38}$",
    "Int256": r"^-?\d{1,76}$",
    "UInt128": r"^\d{1,38}$",
    "UInt256": r"^\d{1,77}$",
}
"""What a text has to look like: ClickHouse makes zeros of some that are something else."""


def unwrap(declared: str) -> tuple[str, bool]:
    """Return a type without what it is wrapped in, and whether it takes nulls."""
    nullable = False
    while (found := re.fullmatch(r"(Nullable|LowCardinality)\((.*)\)", declared, re.DOTALL)) is not None:
        nullable = nullable or found.group(1) == "Nullable"
        declared = found.group(2)
    return declared, nullable or declared.startswith(("Variant(", "Dynamic", "JSON"))


def column_of(name: str, declared: str, *, has_default: bool) -> Column:
    """Return a column of a table; the server itself reads the texts of types that are unknown here."""
    kind, nullable = unwrap(declared)
    found = arrow_type(kind)
    return Column(
        name,
        found or pa.string(),
        declared,
        json=kind.startswith("JSON"),
        takes="native" if found is not None and is_.is_nested(found) else "",
        has_default=has_default,
        refuses_null=not nullable,
    )


def arrow_type(declared: str) -> pa.DataType | None:
    """Return the Arrow type of the values of a type; None for one that takes texts."""
    declared, _ = unwrap(declared.strip())
    if declared in _TYPES:
        return _TYPES[declared]
    kind, _, rest = declared.partition("(")
    parts = [part.strip() for part in _split(rest.removesuffix(")"))] if rest else []
    if kind == "DateTime":
        return pa.timestamp("s", "UTC")
    if kind in ("DateTime64", "Time64"):
        unit = ("s", "ms", "us", "ns")[(int(parts[0]) + 2) // 3]
        if kind == "Time64":
            return pa.time64(unit) if unit in ("us", "ns") else pa.time32(unit)
        return pa.timestamp(unit, "UTC")
    if kind == "Decimal":
        precision, scale = int(parts[0]), int(parts[1])
        return (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale)
    return _nested(kind, parts)


def _nested(kind: str, parts: Sequence[str]) -> pa.DataType | None:
    if kind == "Array":
        return pa.list_(arrow_type(parts[0]) or pa.string())
    if kind == "Map":
        return pa.map_(*(arrow_type(part) or pa.string() for part in parts))
    named = [re.match(r"(`(?:[^`\\]|\\.)*`|\w+)\s+(.*)", part, re.DOTALL) for part in parts]
    if kind == "Tuple" and parts and all(named):
        fields = [(each.group(1).strip("`"), arrow_type(each.group(2)) or pa.string()) for each in named if each]
        return pa.struct(fields)
    return None


def _split(text: str) -> Iterator[str]:
    """Return the parts between commas that are in no brackets or quotes."""
    depth, start, quote = 0, 0, ""
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote and text[at - 1] != "\\" else quote
        elif char in "'`":
            quote = char
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char == "," and depth == 0:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def declared_type(kind: pa.DataType) -> str:
    """Return the type of a column that is made for values of an Arrow type."""
    if is_.is_decimal(kind):
        return f"Decimal({kind.precision}, {kind.scale})" if kind.scale >= 0 else "String"
    if is_.is_timestamp(kind):
        return f"DateTime64({9 if kind.unit == 'ns' else 6}, 'UTC')"
    if is_.is_duration(kind):
        return "IntervalNanosecond" if kind.unit == "ns" else "IntervalMicrosecond"
    tests = [
        (is_.is_boolean(kind), "Bool"),
        (is_.is_uint64(kind), "UInt64"),
        (is_.is_integer(kind), "Int64"),
        (is_.is_floating(kind), "Float64"),
        (is_.is_date(kind), "Date32"),
        (is_.is_time(kind), "Time64(9)" if kind.equals(pa.time64("ns")) else "Time64(6)"),
    ]
    return next((name for fits, name in tests if fits), "String")


def misfits(columns: Sequence[Column], rows: Batch) -> dict[int, str]:
    """Return, by row index, which values the server would change silently: nulls, and what is out of bounds."""
    reasons: dict[int, str] = {}
    for column, values in zip(columns, rows.columns, strict=True):
        kind, _ = unwrap(column.declared)
        if column.refuses_null and values.null_count:
            _note(reasons, values.is_null(), f"column {column.name}: {column.declared} takes no null")
        if (wrong := _out_of_bounds(kind, values)) is not None:
            _note(reasons, wrong, f"column {column.name}: expected a value that {kind[:60]} holds")
    return reasons


def _out_of_bounds(kind: str, values: pa.Array) -> pa.Array | None:
    if kind in _DAYS:
        return _outside(values.cast(pa.int32()), *_DAYS[kind])
    if kind.startswith("DateTime64"):
        return None  # the session has its years
    if kind.startswith("DateTime"):
        return _outside(values.cast(pa.int64()), 0, _MAX_DATETIME)
    if kind in _TEXTS:
        return pc.invert(pc.match_substring_regex(values, _TEXTS[kind]))
    if kind.startswith("FixedString("):
        size = int(kind.removeprefix("FixedString(").removesuffix(")"))
        return pc.greater(pc.binary_length(values), size)
    return None


def _outside(numbers: pa.Array, least: int, most: int) -> pa.Array:
    return pc.or_(pc.less(numbers, least), pc.greater(numbers, most))


def _note(reasons: dict[int, str], wrong: pa.Array, reason: str) -> None:
    for row in pc.indices_nonzero(pc.fill_null(wrong, False)).to_pylist():
        reasons.setdefault(row, reason)


def takes_bytes(column: Column, values: pa.Array) -> bool:
    """Tell whether bytes go into a column that otherwise takes text: ClickHouse has one type for both."""
    return is_binary(values.type) and unwrap(column.declared)[0].startswith(("String", "FixedString"))
