"""The times of an export, in all the forms in which the app writes them, as microseconds since 1970 in UTC."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ....platform.cache import memoize


class Instant(NamedTuple):
    """A time, and what was said of the place where it was."""

    micros: int
    """Microseconds since 1970 in UTC."""
    offset_minutes: int | None
    """East of UTC; None where UTC, or nothing, was said."""
    assumed: bool = False
    """Whether no offset was said, so that UTC was assumed."""


class Instants(NamedTuple):
    """Many times. Where one could not be read, ``faults`` says why; its values are 0 then."""

    micros: np.ndarray[Any, np.dtype[np.int64]]
    offsets: np.ndarray[Any, np.dtype[np.int32]]
    known: np.ndarray[Any, np.dtype[np.bool_]]
    """Whether there is an offset."""
    assumed: list[int]
    """Where UTC was assumed."""
    faults: dict[int, str]

    def offset_minutes(self) -> pa.Array:
        """Return the offsets as a column, null where there is none."""
        return pa.array(self.offsets, pa.int32(), mask=~self.known)


FIRST = -62_135_596_800_000_000  # 0001-01-01
LAST = 253_402_300_799_999_999  # 9999-12-31
"""Times are in the years 1 to 9999 in UTC, which all databases and Python know."""
_MILLISECONDS = 1e11
"""Numbers from here on are milliseconds: as seconds they would be after the year 5138."""

_TEXT = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[T\s]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?\s*([AaPp]\.?\s?[Mm]\.?)?"
    r"\s*(Z|z|UTC|GMT|[+\-−]\d{2}:?\d{2}|[+\-−]\d{2})?)?"
)
_HALVES = {"上午": "AM", "午前": "AM", "오전": "AM", "下午": "PM", "午後": "PM", "오후": "PM"}
_HALF_FIRST = re.compile(rf"({'|'.join(_HALVES)})\s*([\d:.,]*\d)")
_NUMBER = re.compile(r"-?\d{5,}(\.\d+)?")


def instant(value: Any) -> Instant:
    """Return the time that ``value`` says; raises ValueError saying what was expected.

    It is a text (``2026-02-03 07:15:00 +0100``, with 12 hours and AM or PM, ISO 8601, or a date alone) or seconds
    since 1970 (milliseconds from 10**11 on). Where no offset is said, it is UTC that is meant, and ``assumed``.
    """
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _of_number(value)
    raise ValueError("expected a date, got " + ("nothing" if value is None else f"{value!r:.80}"))


def _of_number(value: float) -> Instant:
    if not -1e18 < value < 1e18:  # before it is multiplied: neither infinity nor a number without end can be
        raise ValueError(f"expected seconds since 1970, got {value!r:.40}")
    micros = round(value * (1000 if abs(value) >= _MILLISECONDS else 1_000_000))
    if not FIRST <= micros <= LAST:
        raise ValueError(f"expected seconds since 1970, got {value!r:.40}, which is beyond the year 9999")
    return Instant(micros, None)


def _of_text(text: str) -> Instant:
    found = _TEXT.fullmatch(text.strip()) or _TEXT.fullmatch(_half_last(text.strip()))
    if found is None:
        if _NUMBER.fullmatch(text.strip()) and len(text) < 40:
            return _of_number(float(text))
        raise ValueError(f"expected a date such as 2026-02-03 07:15:00 +0100, got {text[:80]!r}")
    year, month, day, hour, minute, second, fraction, half, zone = found.groups()
    hours = int(hour or 0)
    if half:
        if not 1 <= hours <= 12:
            raise ValueError(f"expected an hour from 1 to 12 before {half}, got {text[:80]!r}")
        hours = hours % 12 + (12 if half[0] in "Pp" else 0)
    try:
        local = datetime(int(year), int(month), int(day), hours, int(minute or 0), int(second or 0), tzinfo=UTC)
    except ValueError as invalid:
        raise ValueError(f"expected a date, got {text[:80]!r}: {invalid}") from None
    offset = _offset(zone)
    micros = (local - _EPOCH) // _MICROSECOND + int((fraction or "0")[:6].ljust(6, "0")) - (offset or 0) * 60_000_000
    if not FIRST <= micros <= LAST:
        raise ValueError(f"expected a date from the year 1 to 9999 in UTC, got {text[:80]!r}")
    return Instant(micros, offset, assumed=zone is None)


def _half_last(text: str) -> str:
    """Return a time with AM or PM behind it, where its language says so before it."""
    return _HALF_FIRST.sub(lambda said: f"{said[2]} {_HALVES[said[1]]}", text[:80])


def in_zone(text: str, zone: tzinfo) -> str:
    """Return a time with the offset that ``zone`` has then, if it says none; anything else stays as it is.

    An hour that comes twice is the first of the two.
    """
    found = _TEXT.fullmatch(text.strip()) or _TEXT.fullmatch(_half_last(text.strip()))
    if found is None or found[9] is not None:
        return text
    try:
        local = (_EPOCH + timedelta(microseconds=_of_text(text).micros)).replace(tzinfo=zone)
        offset = local.utcoffset()
    except (ValueError, OverflowError):
        return text
    minutes = round((offset or timedelta()).total_seconds() / 60)
    sign = "-" if minutes < 0 else "+"
    hour = "" if found[4] else " 00:00:00"
    return f"{text.strip()}{hour} {sign}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"


@memoize(100)
def zone_of(name: str | None) -> tzinfo | None:
    """Return a time zone by its name (``Europe/Berlin``) or offset (``+02:00``); None for none, or one not known."""
    if not name:
        return None
    try:
        if _OFFSET.fullmatch(name):
            return timezone(timedelta(minutes=_offset(name) or 0))
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # as it is no name of a file, or no file of a zone
        return None


_OFFSET = re.compile(r"[+\-−]\d{2}:?\d{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _offset(zone: str | None) -> int | None:
    if zone is None or zone in ("Z", "z", "UTC", "GMT"):
        return None
    digits = zone[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    if int(digits[2:]) > 59 or minutes > 18 * 60:
        raise ValueError(f"expected an offset such as +0100, got {zone!r}")
    return minutes if zone[0] == "+" else -minutes


def instants(values: Sequence[Any]) -> Instants:
    """Return the times that ``values`` say; never raises."""
    count = len(values)
    found = Instants(np.zeros(count, np.int64), np.zeros(count, np.int32), np.zeros(count, np.bool_), [], {})
    others = range(count) if count < 8 else _dominant(values, found)
    for index in others:
        try:
            one = instant(values[index])
        except ValueError as invalid:
            found.faults[index] = str(invalid)
            continue
        found.micros[index] = one.micros
        if one.offset_minutes is not None:
            found.offsets[index], found.known[index] = one.offset_minutes, True
        if one.assumed:
            found.assumed.append(index)
    return found


_SHAPE = b"0000-00-00 00:00:00 +0000"
_DIGITS = np.array([place for place, byte in enumerate(_SHAPE) if byte == 48])
_MARKS = np.array([place for place, byte in enumerate(_SHAPE) if byte != 48 and place != 20])
_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def _dominant(values: Sequence[Any], found: Instants) -> Sequence[int]:
    """Read all that are ``yyyy-MM-dd HH:mm:ss Z`` by columns; return the places of the others."""
    try:
        texts = pa.array(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):  # numbers, objects or lists among them
        texts = pa.array([value if type(value) is str and value.isascii() else None for value in values], pa.string())
    rows = np.flatnonzero(
        pc.fill_null(pc.equal(pc.binary_length(texts), len(_SHAPE)), False).to_numpy(zero_copy_only=False)
    )
    if not len(rows):
        return range(len(values))
    taken = texts.take(pa.array(rows))
    buffer = taken.buffers()[2]
    start = np.frombuffer(taken.buffers()[1], np.int32, 1, taken.offset * 4)[0]
    shape = (len(rows), len(_SHAPE))
    chars = np.frombuffer(buffer, np.uint8, shape[0] * shape[1], start).reshape(shape)
    digits = (chars - 48).astype(np.int32)
    marks = np.frombuffer(_SHAPE, np.uint8)[_MARKS]
    signs = chars[:, 20]
    valid = (
        (digits[:, _DIGITS] <= 9).all(1) & (chars[:, _MARKS] == marks).all(1) & ((signs == 43) | (signs == 45))
    )  # what is below "0" has wrapped around to more than 9
    number = {name: _number(digits, first, last) for name, (first, last) in _PLACES.items()}
    year, month, day = number["year"], number["month"], number["day"]
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    most = _DAYS[np.clip(month, 1, 12) - 1] + (leap & (month == 2))
    offset = number["offset_hour"] * 60 + number["offset_minute"]
    valid &= (month >= 1) & (month <= 12) & (day >= 1) & (day <= most) & (year >= 2) & (year <= 9998)
    valid &= (number["hour"] < 24) & (number["minute"] < 60) & (number["second"] < 60)
    valid &= (number["offset_minute"] < 60) & (offset <= 18 * 60)
    offset = np.where(signs == 45, -offset, offset)
    seconds = (
        _days(year, month, day) * 86400 + number["hour"] * 3600 + number["minute"] * 60 + number["second"] - offset * 60
    )
    good = rows[valid]
    found.micros[good] = seconds[valid] * 1_000_000
    found.offsets[good] = offset[valid]
    found.known[good] = True
    if len(good) == len(values):
        return ()
    others: list[int] = np.setdiff1d(np.arange(len(values)), good).tolist()
    return others


_PLACES = {
    "year": (0, 4),
    "month": (5, 7),
    "day": (8, 10),
    "hour": (11, 13),
    "minute": (14, 16),
    "second": (17, 19),
    "offset_hour": (21, 23),
    "offset_minute": (23, 25),
}


def _number(digits: np.ndarray[Any, np.dtype[np.int32]], first: int, last: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return digits[:, first:last].astype(np.int64) @ (10 ** np.arange(last - first)[::-1])


def _days(year: Any, month: Any, day: Any) -> Any:
    """Days since 1970 of dates of the Gregorian calendar; years begin in March, so that leap days come last."""
    year = year - (month <= 2)
    of_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    era = year // 400
    of_era = (year - era * 400) * 365 + (year % 400) // 4 - (year % 400) // 100 + of_year
    return era * 146097 + of_era - 719468


def text(micros: int, offset_minutes: int | None = None) -> str:
    """Return the time as RFC 3339, in its offset where there is one."""
    moment = _EPOCH + timedelta(microseconds=micros)
    if offset_minutes is not None:
        try:
            return moment.astimezone(timezone(timedelta(minutes=offset_minutes))).isoformat()
        except (OverflowError, ValueError):
            pass  # beyond the years that can be written; in UTC it can
    return moment.isoformat().replace("+00:00", "Z")
