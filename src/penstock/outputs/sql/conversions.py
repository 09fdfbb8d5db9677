"""Convert the values of a batch to the types of the columns of a table, and say which do not fit."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from ...errors import PermanentError
from .arrays import array_literals, innermost, number_literals
from .columns import (
    PER_SECOND,
    PRINTABLE_YEARS,
    Column,
    Misfit,
    Years,
    check_years,
    fits,
    is_binary,
    is_number,
    is_text,
)
from .numbers import parse_fractions, to_boolean, to_decimal, to_number
from .texts import INTERVAL, json_texts, texts

_MISFITS = (ValueError, pa.ArrowNotImplementedError, pa.ArrowTypeError, OverflowError, PermanentError)


def convert(values: pa.Array, column: Column, years: Years) -> tuple[pa.Array, dict[int, str]]:
    """Convert values to the column's type; return them and, by row index, why a value does not fit."""
    bad: dict[int, str] = {}
    pieces = _fit(values, column, years, 0, len(values), bad)
    return (pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)), bad


def _fit(values: pa.Array, column: Column, years: Years, start: int, rows: int, bad: dict[int, str]) -> list[pa.Array]:
    piece = values.slice(start, rows)
    try:
        return [check_years(cast(piece, column), years)]
    except _MISFITS:
        if rows > 1:
            half = rows // 2
            left = _fit(values, column, years, start, half, bad)
            return left + _fit(values, column, years, start + half, rows - half, bad)
        bad[start] = f"column {column.name}: expected {expected(column, years, values.type)}, got {_excerpt(piece[0])}"
        return [pa.nulls(1, column.type)]


def _excerpt(value: pa.Scalar) -> str:
    try:
        text = repr(value.as_py())
    except (ValueError, OverflowError):
        text = f"a {value.type} beyond the calendar"
    return text if len(text) <= 80 else f"{text[:77]}..."


def expected(column: Column, years: Years, given: pa.DataType) -> str:
    """Say in words what a column takes; of what is given in that kind already, how much of it."""
    kind = column.type
    calendar = f" of the years {years[0]} to {years[1]}" if is_.is_timestamp(given) or is_.is_date(given) else ""
    exact = f" that {kind.bit_width} bits hold exactly" if is_number(given) and is_.is_floating(kind) else ""
    tests = [
        (column.takes == "array", "a list" if column.element is None else f"a list of {column.element}"),
        (column.takes == "native", f"a {kind}"),
        (column.takes == "interval", "a duration"),
        (column.json, "JSON"),
        (is_.is_boolean(kind), "true or false"),
        (is_.is_integer(kind) and not column.takes, f"a whole number that fits {kind}"),
        (is_.is_integer(kind) or is_.is_floating(kind), f"a number{exact}"),
        (is_.is_decimal(kind), f"a number that fits {kind}"),
        (is_.is_date(kind), f"a date{calendar}"),
        (is_.is_time(kind), "a time"),
        (is_.is_timestamp(kind), f"a timestamp{calendar}"),
        (is_.is_duration(kind), "a duration"),
        (is_binary(kind), "bytes"),
    ]
    return next((words for fits, words in tests if fits), "text in UTF-8")


def cast(values: pa.Array, column: Column) -> pa.Array:
    """Return the values as the column's type; raises an Arrow error if any of them would lose something."""
    source, target = values.type, column.type
    if source.equals(target) and not column.json and column.takes != "array":
        return values
    if is_.is_null(source) or values.null_count == len(values):
        return pa.nulls(len(values), target)
    if column.takes == "native":
        return values.cast(target)
    if column.takes == "array":
        if column.element is not None:
            _check_elements(values, column.element)
        return _arrays(values, of_json=column.json)
    if column.json:
        return json_texts(values)
    if column.takes == "interval" and not (is_text(source) or source.id == INTERVAL):
        raise Misfit(f"a {source}")
    if is_.is_string(target):
        return texts(values)
    if is_binary(target):
        return _text_or_bytes(values).cast(target)
    if is_.is_nested(source) or is_binary(source):
        raise Misfit(f"a {source}")
    if is_text(source):
        return _parsed(values, target)
    for is_kind, change in _CONVERSIONS:
        if is_kind(target):
            return change(values, target)
    raise Misfit(f"a {source} for a {target}")


def _arrays(values: pa.Array, *, of_json: bool) -> pa.Array:
    kind = innermost(values.type)
    if is_.is_floating(kind) and is_.is_nested(values.type) and not of_json:
        return number_literals(values)
    if is_binary(kind):
        raise Misfit(f"a {values.type}")
    return array_literals(json_texts(values), texts(values).to_pylist(), of_json=of_json)


def _check_elements(values: pa.Array, kind: pa.DataType) -> None:
    """Raise Misfit for numbers in lists that the elements of an array would round."""
    while is_.is_list(values.type) or is_.is_large_list(values.type):
        values = values.flatten()
    if is_number(values.type):
        cast(values, Column("", kind))


def _text_or_bytes(values: pa.Array) -> pa.Array:
    if not (is_binary(values.type) or is_text(values.type)):
        raise Misfit(f"a {values.type}")
    return values.cast(pa.binary())


def _date(values: pa.Array, target: pa.DataType) -> pa.Array:
    if not (is_.is_date(values.type) or is_.is_timestamp(values.type)):
        raise Misfit(f"a {values.type}")
    return values.cast(target)


def _timestamp(values: pa.Array, target: pa.DataType) -> pa.Array:
    """Finer units are cut off: no database here keeps more than its own. Without a zone it is UTC."""
    if is_.is_date(values.type):
        return values.cast(pa.timestamp("s")).cast(target)
    if not is_.is_timestamp(values.type):
        raise Misfit(f"a {values.type}")
    finer = PER_SECOND[values.type.unit] > PER_SECOND[target.unit]
    return pc.cast(values, options=pc.CastOptions(target, allow_time_truncate=finer))


def _time(values: pa.Array, target: pa.DataType) -> pa.Array:
    if not is_.is_time(values.type):
        raise Misfit(f"a {values.type}")
    return pc.cast(values, options=pc.CastOptions(target, allow_time_truncate=True))


def _duration(values: pa.Array, target: pa.DataType) -> pa.Array:
    if not is_.is_duration(values.type):
        raise Misfit(f"a {values.type}")
    return pc.cast(values, options=pc.CastOptions(target, allow_time_truncate=True))


_CONVERSIONS = (
    (is_.is_boolean, to_boolean),
    (is_.is_integer, to_number),
    (is_.is_floating, to_number),
    (is_.is_decimal, to_decimal),
    (is_.is_date, _date),
    (is_.is_time, _time),
    (is_.is_timestamp, _timestamp),
    (is_.is_duration, _duration),
)


def _parsed(values: pa.Array, target: pa.DataType) -> pa.Array:
    """Read texts as the column's type; they may be ISO 8601 or what the database itself prints."""
    values = values.cast(pa.string())
    if is_.is_timestamp(target):
        return _parsed_timestamps(values, target)
    if is_.is_time(target):
        day = pa.scalar("1970-01-01 ")
        moments = pc.binary_join_element_wise(day, values, pa.scalar("")).cast(pa.timestamp("ns"))
        return _time(moments.cast(pa.time64("ns")), target)
    if is_.is_duration(target):
        raise Misfit("a text")
    return parse_fractions(values, target) if is_.is_floating(target) else values.cast(target)


def _parsed_timestamps(values: pa.Array, target: pa.DataType) -> pa.Array:
    forms = [pa.timestamp(unit, zone) for zone in ("UTC", None) for unit in (target.unit, "ns")]
    for form in forms:
        try:
            return _timestamp(values.cast(form), target)
        except pa.ArrowInvalid:
            continue
    raise Misfit("no timestamp")


def is_exact(values: pa.Array, column: Column, target: pa.DataType) -> bool:
    """Tell whether the values that fit the column are the same in another type."""
    found, _ = convert(values, column, PRINTABLE_YEARS)
    return fits(found, target)
