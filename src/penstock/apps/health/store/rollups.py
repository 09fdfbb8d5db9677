"""What a user has of each metric, and points summed up by hours to years, read without reading every point."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection, RowMapping, func, select, text

from .. import nights
from ..priority import load
from ..schema import DAYS, DOUBTFUL, TRACKED, metrics
from .calendar import By, begin_of, iterate_borders, local_midnight, quarter_after, quarter_before, zone_of
from .counting import Counting
from .session import moment
from .sources import took_part_in
from .staging import UNKNOWN_UNIT
from .upkeep import NARROW, SUMS, WHOLE

_SUMS_OF_QUARTERS = (
    "sum(t.count) AS count, sum(t.measured) AS measured, sum(t.sum) AS sum, "
    "min(t.minimum) AS minimum, max(t.maximum) AS maximum"
)
MAX_PERIOD = timedelta(days=367)
_EARLIEST = datetime(2, 1, 3, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Bucket:
    """What the points of an hour, a day, a week, a month or a year come to."""

    time: datetime
    """When it begins, local."""
    count: int
    sum: float | None
    mean: float | None
    minimum: float | None
    maximum: float | None


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
    """Sum up the points of ``metric`` in each hour, day, week (from Monday), month or year of ``timezone``, in order.

    Points from ``start`` on and before ``end``; without them, all. Where several say the same time, one of them counts
    (see ``overlap``). What was summed up by the day or longer is where its middle is. ``source`` takes only what it
    took part in. ``field`` sums up a number of ``fields`` instead of the value, ``kind`` only the points of a kind.
    Buckets without points are left out. Raises PermanentError for a time zone that does not exist, TooManyBuckets
    beyond 20,000.
    """
    there = extent(connection, user, metric)
    if there is None:
        return []
    zone = zone_of(timezone)
    low = max(start, there["first"]) if start else there["first"]
    last = until(metric, there)
    high = min(end, last) if end else last
    if low >= high:
        return []
    plain = field is None and kind is None and there["record"] == "point"
    if plain and metric == nights.METRIC and by != "hour":
        return _asleep(connection, user, by, zone, low, high, source)
    borders = list(iterate_borders(low, high, by, zone))
    stretches = list(zip(range(len(borders)), (max(b, low) for b in borders), [*borders[1:], high], strict=True))
    kept, ragged = [], []
    for number, first, last in stretches:
        aligned_first, aligned_last = quarter_after(first), quarter_before(last)
        if not plain or aligned_first >= aligned_last:
            ragged.append(_Range(number, first, last))
            continue
        kept.append(_Range(number, aligned_first, aligned_last))
        ragged += [_Range(number, a, b) for a, b in ((first, aligned_first), (aligned_last, last)) if a < b]
    reading = _Reading(connection, user, metric, there["record"], source, field, kind)
    if plain and source is not None and reading.is_reduced(low, high):
        return _merged(borders, zone, _of_source(connection, user, metric, source, borders, low, high))
    sums: list[Any] = [*reading.sums(kept, quarters=True), *reading.sums(ragged, quarters=False)]
    if plain and there["period"] >= DAYS:
        sums += reading.days(borders, low, high)
    return _merged(borders, zone, sums)


def overview(connection: Connection, user: int) -> list[RowMapping]:
    """Return metric, record, unit, count, first and last of each metric of the user, without reading points."""
    c = metrics.c
    columns = (func.sum(c.count).label("count"), *_extremes())
    statement = select(c.metric, func.min(c.record).label("record"), func.max(c.unit).label("unit"), *columns)
    found = connection.execute(statement.where(c.user_id == user).group_by(c.metric).order_by(c.metric))
    return list(found.mappings())


def extent(connection: Connection, user: int, metric: str) -> RowMapping | None:
    """Return record, unit, count, first, last and greatest period of one metric; None if the user has nothing of it."""
    c = metrics.c
    statement = select(
        func.min(c.record).label("record"),
        func.max(c.unit).label("unit"),
        func.sum(c.count).label("count"),
        *_extremes(),
    ).where(c.user_id == user, c.metric == metric)
    found = connection.execute(statement).mappings().one()
    return found if found["first"] is not None else None


def _extremes() -> list[Any]:
    """The first and last time of a metric, of those that can be right if any can, and its greatest period."""
    c = metrics.c
    right = c.period != DOUBTFUL
    return [
        func.coalesce(func.min(c.first).filter(right), func.min(c.first)).label("first"),
        func.coalesce(func.max(c.last).filter(right), func.max(c.last)).label("last"),
        func.max(c.period).label("period"),
    ]


def _of_source(
    connection: Connection,
    user: int,
    metric: str,
    source: str,
    borders: list[datetime],
    low: datetime,
    high: datetime,
) -> list[dict[str, Any]]:
    """Sum up what counts of the points in which a source took part, as if there were no others."""
    counting = Counting(connection)
    return [
        {"bucket": bisect_right(borders, at) - 1, **_summed(value, share, minimum, maximum)}
        for at, value, minimum, maximum, share in counting.of_source(user, metric, source, low, high)
        if low <= at < high and share > 0
    ]


def _summed(value: float | None, share: float, minimum: float | None, maximum: float | None) -> dict[str, Any]:
    return {
        "count": 1,
        "measured": int(value is not None),
        "sum": None if value is None else value * share,
        "minimum": value if minimum is None else minimum,
        "maximum": value if maximum is None else maximum,
    }


def _asleep(
    connection: Connection, user: int, by: By, zone: ZoneInfo, low: datetime, high: datetime, source: str | None
) -> list[Bucket]:
    """Return how long was slept in the nights of each day or week, in minutes."""
    first, after = low.astimezone(zone).date(), high.astimezone(zone).date() + timedelta(days=1)
    begin = local_midnight(first, zone)
    found: dict[datetime, list[dict[str, Any]]] = {}
    for night in nights.nights(connection, user, first, after, zone, load(connection, user, nights.METRIC), source):
        midnight = local_midnight(night["night"], zone)
        if begin <= midnight < high:
            found.setdefault(begin_of(midnight, by, zone).astimezone(zone), []).append(night)
    return [_of_nights(start, found[start]) for start in sorted(found)]


def _of_nights(start: datetime, nights: list[dict[str, Any]]) -> Bucket:
    minutes = [night["totals"]["asleep"] for night in nights]
    count = sum(max(1, len(night["stages"])) for night in nights)
    return Bucket(start, count, sum(minutes), sum(minutes) / len(minutes), min(minutes), max(minutes))


def until(metric: str, there: RowMapping) -> datetime:
    """Return before when all that is known of a metric is: a night is at the day of waking up, a day at its middle."""
    longer = timedelta(days=2) if metric == nights.METRIC else timedelta(seconds=max(there["period"], 0))
    last: datetime = there["last"]
    try:
        return last + longer + timedelta(microseconds=1)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


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
        given = {"metric": stored, "kind": kind}
        columns = TRACKED[record].c
        self._bound = {name: wanted for name, wanted in given.items() if wanted is not None and name in columns}
        self._conditions = ["t.user_id = :user", *(f"t.{name} = :{name}" for name in self._bound)]
        self._bound["user"] = user
        if source is not None and "source" in columns:
            self._bound["source"] = source
            self._conditions.append(took_part_in("t.source", ":source", postgres=self._postgres))
        if record == "series":  # Points say by their share that they do not count.
            known = f"CAST(t.warnings AS text) NOT LIKE '%{UNKNOWN_UNIT}%'"
            self._conditions.append(f"(t.warnings IS NULL OR {known})")
        self._plain = record == "point" and field is None and kind is None

    def is_reduced(self, low: datetime, high: datetime) -> bool:
        """Tell whether any of the points does not count, or not as a whole, because others say the same time."""
        bound = self._bound | self._between(low - timedelta(days=1), high)
        where = " AND ".join([*self._conditions, "t.time >= :low AND t.time < :high"])
        quarters = f"SELECT 1 FROM health_quarters t WHERE {where} AND t.reduced > 0 LIMIT 1"  # noqa: S608
        days = f"SELECT 1 FROM health_points t WHERE {where} AND t.period >= {DAYS} AND t.counted IS NOT NULL LIMIT 1"  # noqa: S608
        return any(self._connection.execute(text(sql), bound).first() for sql in (quarters, days))

    def _between(self, low: datetime, high: datetime) -> dict[str, Any]:
        return {"low": moment(low, postgres=self._postgres), "high": moment(high, postgres=self._postgres)}

    def days(self, borders: list[datetime], low: datetime, high: datetime) -> list[dict[str, Any]]:
        """Return what was summed up by the day and longer, each in the bucket where its middle is."""
        where = " AND ".join([*self._conditions, "t.time >= :low AND t.time < :high"])
        sql = (
            "SELECT t.time, t.end_time, t.value, t.minimum, t.maximum, coalesce(t.counted, 1) FROM health_points t "  # noqa: S608
            f"WHERE {where} AND t.period >= {DAYS}"
        )
        found: list[dict[str, Any]] = []
        bound = self._bound | self._between(max(low, _EARLIEST) - MAX_PERIOD, high)
        for *times, value, minimum, maximum, share in self._connection.execute(text(sql), bound):
            start, end = (datetime.fromisoformat(one) if isinstance(one, str) else one for one in times)
            middle = start + (end - start) / 2
            if low <= middle < high and share > 0:
                bucket = bisect_right(borders, middle) - 1
                found.append({"bucket": bucket, **_summed(value, share, minimum, maximum)})
        return found

    def sums(self, ranges: list[_Range], *, quarters: bool) -> list[RowMapping]:
        """Return bucket, count, measured, sum, minimum and maximum of each range in which there is anything."""
        if not ranges:
            return []
        table = "health_quarters" if quarters else TRACKED[self._record].name
        sums = _SUMS_OF_QUARTERS if quarters else self._sums()
        narrow = [NARROW] if self._plain and not quarters else []
        where = " AND ".join([*self._conditions, *narrow, "t.time >= b.low", "t.time < b.high"])
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
            return WHOLE.replace("coalesce(t.minimum, t.value)", "t.value").replace(
                "coalesce(t.maximum, t.value)", "t.value"
            )
        if self._field is None:
            return SUMS if self._record == "point" else WHOLE
        self._bound["field"] = self._field
        if self._postgres:
            of = ["t.fields -> CAST(:field AS text)"]
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


def _merged(borders: list[datetime], zone: ZoneInfo, sums: Sequence[Any]) -> list[Bucket]:
    found: dict[int, list[Any]] = {}
    for row in sums:
        if row["count"]:
            found.setdefault(row["bucket"], []).append(row)
    return [_bucket(borders[number].astimezone(zone), found[number]) for number in sorted(found)]


def _bucket(start: datetime, rows: list[Any]) -> Bucket:
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
