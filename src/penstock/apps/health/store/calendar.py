"""The hours, days, weeks, months and years of a time zone, and the quarters of an hour that their borders are among."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from ....errors import PermanentError

By = Literal["hour", "day", "week", "month", "year"]
MAX_BUCKETS = 20_000
_MAX_DAYS: Mapping[By, int] = {"day": 1, "week": 7, "month": 31, "year": 366}
"""How many days a bucket has at most: added to the first day of one, they are in the next."""
_QUARTER = timedelta(minutes=15)


class TooManyBuckets(PermanentError):
    """The range has more hours, days or weeks than one answer holds."""


def zone_of(name: str) -> ZoneInfo:
    """Return the time zone of this name; raises PermanentError if there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise PermanentError(f"no time zone is called {name[:80]!r}; expected one as Europe/Berlin") from None


def iterate_borders(low: datetime, high: datetime, by: By, zone: ZoneInfo) -> Iterator[datetime]:
    """Yield in UTC when each bucket begins, from the one in which ``low`` is to the last before ``high``."""
    border = begin_of(low, by, zone)
    for _ in range(MAX_BUCKETS):
        if border >= high:
            return
        yield border
        border = _next(border, by, zone)
    if border < high:
        raise TooManyBuckets(
            f"from {low:%Y-%m-%d} to {high:%Y-%m-%d} there are more than {MAX_BUCKETS:,} times a {by}; "
            "narrow the range, or sum up by longer times"
        )


def begin_of(moment: datetime, by: By, zone: ZoneInfo) -> datetime:
    """Return when the hour, day, week, month or year begins in which a moment is, in UTC."""
    local = moment.astimezone(zone)
    if by == "hour":
        begun = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        return (moment - begun).astimezone(UTC)
    return local_midnight(_first_day(local.date(), by), zone)


def _first_day(day: date, by: By) -> date:
    if by == "week":
        return day - timedelta(days=day.weekday())
    if by == "day":
        return day
    return day.replace(day=1) if by == "month" else day.replace(month=1, day=1)


def _next(border: datetime, by: By, zone: ZoneInfo) -> datetime:
    local = border.astimezone(zone)
    if by == "hour":
        return border + timedelta(hours=1) - timedelta(minutes=local.minute, seconds=local.second)
    # A day may begin at one o'clock, where midnight was skipped: it is the same day.
    return local_midnight(_first_day(local.date() + timedelta(days=_MAX_DAYS[by]), by), zone)


def local_midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return when a day begins in a zone, in UTC."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def quarter_before(moment: datetime) -> datetime:
    """Return when the quarter of an hour begins in which a moment is."""
    return datetime.fromtimestamp(0, UTC) + (moment - datetime.fromtimestamp(0, UTC)) // _QUARTER * _QUARTER


def quarter_after(moment: datetime) -> datetime:
    """Return a moment at which a quarter of an hour begins, else the next such."""
    below = quarter_before(moment)
    return below if below == moment else below + _QUARTER
