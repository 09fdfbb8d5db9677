"""Make the values of a batch fit the columns of a table, and say which do not."""

from __future__ import annotations

import contextlib
import decimal
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from ... import iso8601
from ...component import Codec
from ...errors import PermanentError
from .arrays import array_literals, innermost, number_literals

_MISFITS = (ValueError, pa.ArrowNotImplementedError, pa.ArrowTypeError, OverflowError, PermanentError)
Years: TypeAlias = tuple[int, int]
"""The first and the last year of which a database keeps times."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, and what its values are converted to before they are sent."""

    name: str
    type: pa.DataType
    declared: str = ""
    """Its type in the words of the database, for a column that is to be made."""
    json: bool = False
    """It holds JSON, which is sent as text."""
    takes: str = ""
    """SQLite: `number` takes whole and fractional ones, `any` takes what comes. PostgreSQL: `array` takes lists, and
    `interval` texts that are durations."""
    has_default: bool = False
    """The database fills in a value of its own where a row has none."""
    is_required: bool = False
    """A row must have a value, and the database has none of its own."""
    refuses_null: bool = False
    """It is declared NOT NULL."""


PRINTABLE_YEARS: Years = (1, 9999)
"""The years of times that are text: what has more or fewer digits than four is not ISO 8601, and sorts wrongly."""


class Misfit(ValueError):
    """Values that a column cannot hold without loss."""


def plain(values: pa.Array) -> pa.Array:
    """Return the same values without dictionary, run-end or extension encoding."""
    if isinstance(values, pa.ExtensionArray):
        return plain(values.storage)
    if is_.is_dictionary(values.type):
        return plain(values.dictionary_decode())
    if is_.is_run_end_encoded(values.type):
        return plain(pc.run_end_decode(values))
    return values


def convert(values: pa.Array, column: Column, years: Years) -> tuple[pa.Array, dict[int, str]]:
    """Convert values to the column's type; return them and, by row index, why a value does not fit."""
    bad: dict[int, str] = {}
    pieces = _fit(values, column, years, 0, len(values), bad)
    return (pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)), bad


def _fit(values: pa.Array, column: Column, years: Years, start: int, rows: int, bad: dict[int, str]) -> list[pa.Array]:
    piece = values.slice(start, rows)
    try:
        return [_check_years(cast(piece, column), years)]
    except _MISFITS:
        if rows > 1:
            half = rows // 2
            left = _fit(values, column, years, start, half, bad)
            return left + _fit(values, column, years, start + half, rows - half, bad)
        bad[start] = f"column {column.name}: expected {expected(column, years, values.type)}, got {_excerpt(piece[0])}"
        return [pa.nulls(1, column.type)]


def _check_years(values: pa.Array, years: Years) -> pa.Array:
    """Raise Misfit for a time of a year that the database cannot keep."""
    kind = values.type
    if not (is_.is_timestamp(kind) or is_.is_date(kind)) or values.null_count == len(values):
        return values
    per_day = 1 if is_.is_date32(kind) else 86_400 * 10 ** _PER_SECOND["ms" if is_.is_date(kind) else kind.unit]
    first, end = (_days_before(year) * per_day for year in (years[0], years[1] + 1))
    least, most = pc.min_max(values.view(pa.int32() if is_.is_date32(kind) else pa.int64())).values()
    if least.as_py() < first or most.as_py() >= end:
        raise Misfit(f"a time beyond the years {years[0]} to {years[1]}")
    return values


def _days_before(year: int) -> int:
    """Days from 1970 to the beginning of a year."""
    past = year - 1
    return past * 365 + past // 4 - past // 100 + past // 400 - 719_162


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
    exact = " that 64 bits hold exactly" if is_number(given) else ""
    tests = [
        (column.takes == "array", "a list"),
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
    if column.takes == "array":
        return _arrays(values, of_json=column.json)
    if column.json:
        return json_texts(values)
    if column.takes == "interval" and not (is_text(source) or source.id == _INTERVAL):
        raise Misfit(f"a {source}")
    if is_.is_string(target):
        return texts(values)
    if is_binary(target):
        return _text_or_bytes(values).cast(target)
    if is_.is_nested(source) or is_binary(source):
        raise Misfit(f"a {source}")
    if is_text(source):
        return _parsed(values, target)
    for fits, convert in _CONVERSIONS:
        if fits(target):
            return convert(values, target)
    raise Misfit(f"a {source} for a {target}")


def _arrays(values: pa.Array, *, of_json: bool) -> pa.Array:
    kind = innermost(values.type)
    if is_.is_floating(kind) and is_.is_nested(values.type) and not of_json:
        return number_literals(values)
    if is_binary(kind):
        raise Misfit(f"a {values.type}")
    return array_literals(json_texts(values), texts(values).to_pylist(), of_json=of_json)


def _text_or_bytes(values: pa.Array) -> pa.Array:
    if not (is_binary(values.type) or is_text(values.type)):
        raise Misfit(f"a {values.type}")
    return values.cast(pa.binary())


def _boolean(values: pa.Array, target: pa.DataType) -> pa.Array:
    if not is_.is_integer(values.type) or pc.min_max(values.cast(pa.bool_()).cast(values.type)) != pc.min_max(values):
        raise Misfit("neither true nor false")
    return values.cast(target)


def _number(values: pa.Array, target: pa.DataType) -> pa.Array:
    source = values.type
    if not (is_number(source) or is_.is_boolean(source)):
        raise Misfit(f"a {source}")
    if is_.is_floating(target) and is_.is_decimal(source):
        return _fractions(values.cast(pa.string()), target)
    found = values.cast(target)
    if is_.is_floating(source) and is_.is_floating(target) and target.bit_width < source.bit_width:
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.is_finite(values))
        if not pc.all(pc.or_(pc.invert(whole), pc.equal(found.cast(source), values))).as_py():
            raise Misfit("a number that the column would round or cannot hold")
    return found


_EXACT_DIGITS = 15
"""Every decimal number of so many digits comes back from a float64 as it was."""


def _fractions(texts: pa.Array, target: pa.DataType) -> pa.Array:
    """Read numbers that are written out as floats; raises Misfit if one would come back as another."""
    found = texts.cast(target)
    long = pc.greater(pc.utf8_length(texts), _EXACT_DIGITS).fill_null(False)
    if pc.any(long).as_py():
        for text, number in zip(texts.filter(long).to_pylist(), found.filter(long).to_pylist(), strict=True):
            with contextlib.suppress(decimal.InvalidOperation):
                written = decimal.Decimal(text)
                if written.is_finite() and decimal.Decimal(repr(number)) != written:
                    raise Misfit("more digits than the column has")
    return found


def _decimal(values: pa.Array, target: pa.DataType) -> pa.Array:
    source = values.type
    if is_.is_floating(source):
        exact = values.cast(target)
        if not exact.cast(pa.float64()).equals(values.cast(pa.float64())):
            raise Misfit("more digits than the column has")
        return exact
    if is_.is_integer(source):
        return values.cast(pa.decimal128(20, 0)).cast(target)
    if not is_.is_decimal(source):
        raise Misfit(f"a {source}")
    return values.cast(target)


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
    finer = _PER_SECOND[values.type.unit] > _PER_SECOND[target.unit]
    return pc.cast(values, options=pc.CastOptions(target, allow_time_truncate=finer))


def _time(values: pa.Array, target: pa.DataType) -> pa.Array:
    if not is_.is_time(values.type):
        raise Misfit(f"a {values.type}")
    return pc.cast(values, options=pc.CastOptions(target, allow_time_truncate=True))


def _duration(values: pa.Array, target: pa.DataType) -> pa.Array:
    if not is_.is_duration(values.type):
        raise Misfit(f"a {values.type}")
    return pc.cast(values, options=pc.CastOptions(target, allow_time_truncate=True))


_PER_SECOND = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_CONVERSIONS = (
    (is_.is_boolean, _boolean),
    (is_.is_integer, _number),
    (is_.is_floating, _number),
    (is_.is_decimal, _decimal),
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
    return _fractions(values, target) if is_.is_floating(target) else values.cast(target)


def _parsed_timestamps(values: pa.Array, target: pa.DataType) -> pa.Array:
    forms = [pa.timestamp(unit, zone) for zone in ("UTC", None) for unit in (target.unit, "ns")]
    for form in forms:
        try:
            return _timestamp(values.cast(form), target)
        except pa.ArrowInvalid:
            continue
    raise Misfit("no timestamp")


def texts(values: pa.Array) -> pa.Array:
    """Return any values as text: numbers and nested values as their JSON, times as ISO 8601 prints them."""
    source = values.type
    if is_.is_nested(source):
        return json_texts(values)
    if is_.is_duration(source):
        return values.cast(pa.int64()).cast(pa.string())
    if source.id == _INTERVAL:
        return pa.array([None if each is None else _interval(each) for each in values.to_pylist()], pa.string())
    if is_.is_timestamp(source) or is_.is_date(source):
        _check_years(values, PRINTABLE_YEARS)
    if is_.is_timestamp(source) and source.tz is not None:
        return zoned(values)
    if is_.is_fixed_size_binary(source) or is_.is_binary_view(source):
        values = values.cast(pa.binary())
    return iso8601.plain(values).cast(pa.string())


def zoned(values: pa.Array) -> pa.Array:
    """Print timestamps of a zone in UTC; thirty times as fast as Arrow, which looks the zone up for each."""
    printed = iso8601.plain(values.cast(pa.timestamp(values.type.unit))).cast(pa.string())
    return pc.binary_join_element_wise(printed, pa.scalar("Z"), pa.scalar(""))


_INTERVAL = pa.month_day_nano_interval().id


def _interval(value: Any) -> str:
    seconds, nanoseconds = divmod(abs(value.nanoseconds), 1_000_000_000)
    sign = "-" if value.nanoseconds < 0 else ""
    return f"P{value.months}M{value.days}DT{sign}{seconds}.{nanoseconds:09d}S"


def json_texts(values: pa.Array) -> pa.Array:
    """Return the values as JSON; a text that holds an object or a list is JSON already."""
    encoded = Codec.find("json")().encode(pa.record_batch({"v": values})).cast(pa.string())
    bare = pc.utf8_slice_codeunits(encoded, len('{"v":'), -1)
    bare = pc.if_else(values.is_valid(), bare, pa.scalar(None, pa.string()))
    if not is_text(values.type):
        return bare
    candidates = pc.match_substring_regex(values.cast(pa.string()), r"^\s*[\[{]")
    if not pc.any(candidates).as_py():
        return bare
    kept = values.cast(pa.string())
    return pc.if_else(pa.array([_is_json(text) for text in kept.to_pylist()]), kept, bare)


def _is_json(text: str | None) -> bool:
    if text is None or not text.lstrip().startswith(("[", "{")):
        return False
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True


def fits(values: pa.Array, target: pa.DataType) -> bool:
    """Tell whether the values are the same in another type."""
    try:
        values.cast(target)
    except pa.ArrowInvalid:
        return False
    return True


def is_exact(values: pa.Array, column: Column, target: pa.DataType) -> bool:
    """Tell whether the values that fit the column are the same in another type."""
    found, _ = convert(values, column, PRINTABLE_YEARS)
    return fits(found, target)


def is_number(kind: pa.DataType) -> bool:
    """Tell whether it is a kind of number."""
    return bool(is_.is_integer(kind) or is_.is_floating(kind) or is_.is_decimal(kind))


def is_text(kind: pa.DataType) -> bool:
    """Tell whether it is a kind of text."""
    return bool(is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Tell whether it is a kind of bytes."""
    return bool(
        is_.is_binary(kind) or is_.is_large_binary(kind) or is_.is_fixed_size_binary(kind) or is_.is_binary_view(kind)
    )
