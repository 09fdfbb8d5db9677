"""What a user has of each metric, and points summed up by hours, days and weeks, read without reading every point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection, RowMapping, func, select, text

from ....errors import PermanentError
from ..schema import TRACKED, metrics
from .session import moment
from .upkeep import SUMS

By = Literal["hour", "day", "week"]
MAX_BUCKETS = 20_000
_QUARTER = timedelta(minutes=15)
_SUMS_OF_QUARTERS = (
    "sum(t.count) AS count, sum(t.measured) AS measured, sum(t.sum) AS sum, "
    "min(t.minimum) AS minimum, max(t.maximum) AS maximum"
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """What the points of an hour, a day or a week come to."""

    time: datetime
    """When it begins, local."""
    count: int
    sum: float | None
    mean: float | None
    minimum: float | None
    maximum: float | None


class TooManyBuckets(PermanentError):
    """The range has more hours, days or weeks than one answer holds."""


@dataclass(frozen=True)
class _Range:
    """A stretch of a bucket whose sums are kept, or are to be made from points."""

    bucket: int
    low: datetime
    high: datetime


def aggregate(
    connection: Connection,
    user: int,
    metric: str,
    by: By,
    timezone: str = "UTC",
    start: datetime | None = None,
    end: datetime | None = None,
    source: str | None = None,
    field: str | None = None,
    *,
    kind: str | None = None,
) -> list[Bucket]:
    """Sum up the points of ``metric`` in each hour, day or week (from Monday) of ``timezone``, in order of time.

    Points from ``start`` on and before ``end``; without them, all. ``field`` sums up a number of ``fields`` instead of
    the value, ``kind`` only the points of a kind. Buckets without points are left out. Raises PermanentError for a time
    zone that does not exist, TooManyBuckets beyond 20,000.
    """
    there = extent(connection, user, metric)
    if there is None:
        return []
    zone = _zone(timezone)
    low = max(start, there["first"]) if start else there["first"]
    high = min(end, there["last"] + timedelta(microseconds=1)) if end else there["last"] + timedelta(microseconds=1)
    if low >= high:
        return []
    borders = list(_borders(low, high, by, zone))
    stretches = list(zip(range(len(borders)), (max(b, low) for b in borders), [*borders[1:], high], strict=True))
    kept, ragged = [], []
    for number, first, last in stretches:
        aligned_first, aligned_last = _up(first), _down(last)
        if field is not None or kind is not None or there["record"] != "point" or aligned_first >= aligned_last:
            ragged.append(_Range(number, first, last))
            continue
        kept.append(_Range(number, aligned_first, aligned_last))
        ragged += [_Range(number, a, b) for a, b in ((first, aligned_first), (aligned_last, last)) if a < b]
    reading = _Reading(connection, user, metric, there["record"], source, field, kind)
    return _merged(borders, zone, [*reading.sums(kept, quarters=True), *reading.sums(ragged, quarters=False)])


def overview(connection: Connection, user: int) -> list[RowMapping]:
    """Return metric, record, unit, count, first and last of each metric of the user, without reading points."""
    c = metrics.c
    columns = (func.sum(c.count).label("count"), func.min(c.first).label("first"), func.max(c.last).label("last"))
    statement = select(c.metric, func.min(c.record).label("record"), func.max(c.unit).label("unit"), *columns)
    found = connection.execute(statement.where(c.user_id == user).group_by(c.metric).order_by(c.metric))
    return list(found.mappings())


def extent(connection: Connection, user: int, metric: str) -> RowMapping | None:
    """Return record, unit, count, first and last of one metric; None if the user has nothing of it."""
    c = metrics.c
    statement = select(
        func.min(c.record).label("record"),
        func.max(c.unit).label("unit"),
        func.sum(c.count).label("count"),
        func.min(c.first).label("first"),
        func.max(c.last).label("last"),
    ).where(c.user_id == user, c.metric == metric)
    found = connection.execute(statement).mappings().one()
    return found if found["first"] is not None else None


class _Reading:
    """Sums of stretches of one metric."""

    def __init__(
        self,
        connection: Connection,
        user: int,
        metric: str,
        record: str,
        source: str | None,
        field: str | None,
        kind: str | None,
    ) -> None:
        self._connection, self._record, self._field = connection, record, field
        self._postgres = connection.dialect.name == "postgresql"
        self._bound: dict[str, Any]
        stored = metric.removeprefix("workout_") if record == "series" else metric
        given = {"metric": stored, "source": source, "kind": kind}
        columns = TRACKED[record].c
        self._bound = {name: wanted for name, wanted in given.items() if wanted is not None and name in columns}
        self._conditions = ["t.user_id = :user", *(f"t.{name} = :{name}" for name in self._bound)]
        self._bound["user"] = user

    def sums(self, ranges: list[_Range], *, quarters: bool) -> list[RowMapping]:
        """Return bucket, count, measured, sum, minimum and maximum of each range in which there is anything."""
        if not ranges:
            return []
        table = "health_quarters" if quarters else TRACKED[self._record].name
        sums = _SUMS_OF_QUARTERS if quarters else self._sums()
        where = " AND ".join([*self._conditions, "t.time >= b.low", "t.time < b.high"])
        bound: dict[str, Any]
        if self._postgres:
            bound = {
                "buckets": [each.bucket for each in ranges],
                "lows": [each.low for each in ranges],
                "highs": [each.high for each in ranges],
            }
            partitions = ""
            if not quarters:
                partitions = " AND t.time >= :least AND t.time < :most"
                bound |= {"least": min(bound["lows"]), "most": max(bound["highs"])}
            sql = (
                "SELECT b.bucket, a.* FROM unnest(CAST(:buckets AS int[]), CAST(:lows AS timestamptz[]), "  # noqa: S608
                f"CAST(:highs AS timestamptz[])) AS b(bucket, low, high) CROSS JOIN LATERAL (SELECT {sums} "
                f"FROM {table} t WHERE {where}{partitions}) a WHERE a.count > 0"
            )
        else:
            triples = [
                (each.bucket, moment(each.low, postgres=False), moment(each.high, postgres=False)) for each in ranges
            ]
            bound = {"ranges": msgspec.json.encode(triples).decode()}
            sql = (
                f"SELECT b.bucket, {sums} FROM (SELECT json_extract(value, '$[0]') AS bucket, "  # noqa: S608
                "json_extract(value, '$[1]') AS low, json_extract(value, '$[2]') AS high FROM json_each(:ranges)) b "
                f"CROSS JOIN {table} t WHERE {where} GROUP BY b.bucket"
            )
        return list(self._connection.execute(text(sql), self._bound | bound).mappings())

    def _sums(self) -> str:
        if self._record == "route":
            return "count(*) AS count, 0 AS measured, NULL AS sum, NULL AS minimum, NULL AS maximum"
        if self._record == "workout":
            return SUMS.replace("coalesce(t.minimum, t.value)", "t.value").replace(
                "coalesce(t.maximum, t.value)", "t.value"
            )
        if self._field is None:
            return SUMS
        self._bound["field"] = self._field
        if self._postgres:
            of = ["CAST(t.fields AS jsonb) -> CAST(:field AS text)"]
            of.append(f"{of[0]} -> 'value'")
            tests = {f"jsonb_typeof({each}) = 'number'": f"CAST({each} AS float8)" for each in of}
        else:
            self._bound["field"] = '$."' + self._field.replace('"', "") + '"'
            paths = (":field", ":field || '.value'")
            tests = {
                f"json_type(t.fields, {path}) IN ('integer', 'real')": f"json_extract(t.fields, {path})"
                for path in paths
            }
        value = "CASE " + " ".join(f"WHEN {test} THEN {number}" for test, number in tests.items()) + " END"
        return (
            f"count({value}) AS count, count({value}) AS measured, sum({value}) AS sum, min({value}) AS minimum, "
            f"max({value}) AS maximum"
        )


def _merged(borders: list[datetime], zone: ZoneInfo, sums: list[RowMapping]) -> list[Bucket]:
    found: dict[int, list[RowMapping]] = {}
    for row in sums:
        if row["count"]:
            found.setdefault(row["bucket"], []).append(row)
    return [_bucket(borders[number].astimezone(zone), found[number]) for number in sorted(found)]


def _bucket(start: datetime, rows: list[RowMapping]) -> Bucket:
    def given(name: str) -> list[float]:
        return [row[name] for row in rows if row[name] is not None]

    measured = sum(int(row["measured"]) for row in rows)
    total = sum(given("sum")) if given("sum") else None
    return Bucket(
        time=start,
        count=sum(int(row["count"]) for row in rows),
        sum=total,
        mean=total / measured if total is not None and measured else None,
        minimum=min(given("minimum"), default=None),
        maximum=max(given("maximum"), default=None),
    )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise PermanentError(f"no time zone is called {name[:80]!r}; expected one as Europe/Berlin") from None


def _borders(low: datetime, high: datetime, by: By, zone: ZoneInfo) -> Iterator[datetime]:
    """Yield in UTC when each bucket begins, from the one in which ``low`` is to the last before ``high``."""
    border = _first(low, by, zone)
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


def _first(moment: datetime, by: By, zone: ZoneInfo) -> datetime:
    local = moment.astimezone(zone)
    if by == "hour":
        begun = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        return (moment - begun).astimezone(UTC)
    day = local.date()
    return _midnight(day - timedelta(days=day.weekday() if by == "week" else 0), zone)


def _next(border: datetime, by: By, zone: ZoneInfo) -> datetime:
    local = border.astimezone(zone)
    if by == "hour":
        return border + timedelta(hours=1) - timedelta(minutes=local.minute, seconds=local.second)
    # A day may begin at one o'clock, where midnight was skipped: it is the same day.
    return _midnight(local.date() + timedelta(days=1 if by == "day" else 7), zone)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _down(moment: datetime) -> datetime:
    return datetime.fromtimestamp(0, UTC) + (moment - datetime.fromtimestamp(0, UTC)) // _QUARTER * _QUARTER


def _up(moment: datetime) -> datetime:
    below = _down(moment)
    return below if below == moment else below + _QUARTER
