"""Times as ISO 8601, exact for every value of a type: years beyond 0 to 9999 have a sign and six digits."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from .errors import PermanentError

_TEXT = pa.large_string()
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_DAY = 86_400
_FIRST_DAY, _DAYS_END = -719_528, 2_932_897
"""From the first day of the year 0 to the day behind the year 9999, in days since 1970."""
_STANDARD_TIME = 63_593_070
"""When the last zone gave up an offset with seconds: Liberia, in January 1972."""


def timestamps(array: pa.TimestampArray, separator: str = "T") -> pa.Array:
    """Return texts such as ``2026-01-31T12:30:00.000``, in UTC; what stands for a zone is left out."""
    unit = array.type.unit
    day = _DAY * 10 ** _DIGITS[unit]
    local = array.cast(pa.timestamp(unit))

    def write(ticks: int) -> str:
        days, rest = divmod(ticks, day)
        return _date(days) + separator + _clock(rest, unit)

    texts = _written(local, local.cast(pa.int64()), _FIRST_DAY * day, _DAYS_END * day, write)
    return texts if separator == " " else pc.replace_substring(texts, " ", separator, max_replacements=1)


def dates(array: pa.Array) -> pa.Array:
    """Return texts such as ``2026-01-31``; raises PermanentError for a date that is not a whole day."""
    if pa.types.is_date32(array.type):
        return _written(array, array.cast(pa.int32()).cast(pa.int64()), _FIRST_DAY, _DAYS_END, _date)
    day = _DAY * 1000
    ticks = array.cast(pa.int64())
    days = pc.divide(ticks, day)
    if pc.all(pc.equal(pc.multiply(days, day), ticks)).as_py() not in (True, None):
        raise PermanentError("a date has a time of day")
    return _written(array, ticks, _FIRST_DAY * day, _DAYS_END * day, lambda value: _date(value // day))


def times(array: pa.Array) -> pa.Array:
    """Return texts such as ``12:30:00.000``, up to 24:00:00; raises PermanentError for what no clock shows."""
    unit = array.type.unit
    day = _DAY * 10 ** _DIGITS[unit]
    ticks = array.cast(pa.int32() if pa.types.is_time32(array.type) else pa.int64()).cast(pa.int64())
    bounds = pc.min_max(ticks).as_py()
    if ticks.null_count < len(ticks) and not 0 <= bounds["min"] <= bounds["max"] <= day:
        raise PermanentError("a time of day is not between 00:00 and 24:00")
    return _written(array, ticks, 0, day, lambda value: _clock(value, unit))


def durations(array: pa.DurationArray) -> pa.Array:
    """Return texts such as ``PT1.500S``."""
    digits = _DIGITS[array.type.unit]
    ticks = array.cast(pa.int64())
    sign = pc.if_else(pc.less(ticks, 0), pa.scalar("PT-", _TEXT), pa.scalar("PT", _TEXT))
    whole = pc.abs(ticks.cast(pa.decimal128(19, 0))).cast(_TEXT)
    if not digits:
        return _join(sign, whole, "S")
    padded = pc.utf8_lpad(whole, digits + 1, "0")
    seconds, fraction = pc.utf8_slice_codeunits(padded, 0, -digits), pc.utf8_slice_codeunits(padded, -digits)
    return _join(sign, seconds, ".", fraction, "S")


def intervals(array: pa.MonthDayNanoIntervalArray) -> pa.Array:
    """Return texts such as ``P14M3DT1.500000000S``, each part with its own sign."""
    return pa.array([None if value is None else _interval(*value) for value in array.to_pylist()], _TEXT)


def plain(array: pa.Array) -> pa.Array:
    """Return durations, intervals and the times that Arrow cannot write as texts; any other array as it is."""
    kind = array.type
    if pa.types.is_duration(kind):
        return durations(array)
    if kind == pa.month_day_nano_interval():
        return intervals(array)
    if pa.types.is_timestamp(kind):
        is_exact = _is_near(array.cast(pa.int64()), kind.unit) and not _has_odd_offset(array)
        return array if is_exact else _with_zone(timestamps(array, " "), kind.tz)
    if pa.types.is_date32(kind):
        return array if _is_near(array.cast(pa.int32()), "D") else dates(array)
    if pa.types.is_date64(kind):
        return dates(array)
    return times(array) if pa.types.is_time(kind) else array


def _with_zone(texts: pa.Array, zone: str | None) -> pa.Array:
    return _join(texts, "Z") if zone else texts


def _has_odd_offset(array: pa.TimestampArray) -> bool:
    """Whether its zone is ahead of UTC by seconds, as before standard time, which Arrow would leave out."""
    kind = array.type
    second = 10 ** _DIGITS[kind.unit]
    if not kind.tz or kind.tz == "UTC" or (pc.min(array.cast(pa.int64())).as_py() or 0) >= _STANDARD_TIME * second:
        return False
    local = pc.local_timestamp(array).cast(pa.int64())
    offsets = pc.divide(pc.subtract(local, array.cast(pa.int64())), second)
    minutes = pc.multiply(pc.divide(offsets, 60), 60)
    return not pc.all(pc.equal(minutes, offsets)).as_py()


def _is_near(ticks: pa.Array, unit: str) -> bool:
    day = 1 if unit == "D" else _DAY * 10 ** _DIGITS[unit]
    bounds = pc.min_max(ticks).as_py()
    least, most = bounds["min"], bounds["max"]
    return least is None or (_FIRST_DAY * day <= least and most < _DAYS_END * day)


def _join(*parts: pa.Array | str) -> pa.Array:
    scalars = [pa.scalar(part, _TEXT) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*scalars, pa.scalar("", _TEXT))


def _written(array: pa.Array, ticks: pa.Array, first: int, end: int, write: Callable[[int], str]) -> pa.Array:
    """Let Arrow write what it can, and write the others one by one."""
    bounds = pc.min_max(ticks)
    least, most = bounds["min"].as_py(), bounds["max"].as_py()
    if least is None or (first <= least and most < end):
        return array.cast(_TEXT)
    far = pc.or_(pc.less(ticks, first), pc.greater_equal(ticks, end))
    near = pc.if_else(far, pa.scalar(None, array.type), array).cast(_TEXT)
    texts = [write(value) for value in ticks.filter(far).to_pylist() if value is not None]
    return pc.replace_with_mask(near, far.fill_null(False), pa.array(texts, _TEXT))


def _date(days: int) -> str:
    """The date in the Gregorian calendar, which is taken to be valid for all time; eras have 400 years."""
    era, day = divmod(days - _FIRST_DAY - 60, 146_097)  # from the first of March, so that a leap day comes last
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    of_year = day - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    number = year + era * 400 + (month >= 10)
    shown = f"{number:04d}" if 0 <= number <= 9999 else f"{number:+07d}"
    return f"{shown}-{month + 3 if month < 10 else month - 9:02d}-{of_year - (153 * month + 2) // 5 + 1:02d}"


def _clock(ticks: int, unit: str) -> str:
    digits = _DIGITS[unit]
    seconds, fraction = divmod(ticks, 10**digits)
    minutes, second = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}" + (f".{fraction:0{digits}d}" if digits else "")


def _interval(months: int, days: int, nanoseconds: int) -> str:
    seconds, fraction = divmod(abs(nanoseconds), 10**9)
    sign = "-" if nanoseconds < 0 else ""
    text = "P" + (f"{months}M" if months else "") + (f"{days}D" if days else "")
    clock = f"T{sign}{seconds}" + (f".{fraction:09d}" if fraction else "") + "S"
    return text + clock if nanoseconds or text == "P" else text
