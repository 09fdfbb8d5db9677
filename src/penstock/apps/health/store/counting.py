"""Which share of each point counts, kept with the points in the transaction that writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, text

from .. import nights
from ..aggregation import adds_up, is_counted
from ..overlap import DAY, UNKNOWN, count_shares
from ..priority import Priority, load
from ..rows import TIME
from ..schema import DOUBTFUL
from .loaded import COLUMNS, MINUTE, SECOND, LoadedPoints, datetime_of, end_of, micros_of, move, points_of
from .session import moment
from .sources import took_part_in
from .staging import UNKNOWN_UNIT

_QUARTER = 15 * MINUTE
_DAY_REACH = timedelta(hours=27)
"""How far from a day bucket what belongs to it may be: a day of 25 hours, in a zone that has changed."""
_SLEEP_REACH = timedelta(days=3)
_WRITE = (
    "UPDATE health_points SET counted = :share WHERE user_id = :user AND metric = :metric AND time = :t "
    "AND end_time = :e AND source = :source AND kind = :kind AND ordinal = :ordinal"
)
_WRITE_COMPACT = (
    "UPDATE health_compact_points p SET counted = s.share FROM ("
    "SELECT timestamptz 'epoch' + u.t * interval '1 microsecond' AS time, i.metric_id, i.id, u.share "
    "FROM unnest(CAST(:t AS bigint[]), CAST(:e AS bigint[]), CAST(:source AS text[]), CAST(:kind AS text[]), "
    "CAST(:ordinal AS int[]), CAST(:share AS double precision[])) u (t, e, source, kind, ordinal, share) "
    "JOIN health_compact_metrics m ON m.user_id = :user AND m.metric = :metric "
    "JOIN health_compact_identities i ON i.metric_id = m.id AND i.source = u.source AND i.kind = u.kind "
    "AND i.span = u.e - u.t AND i.ordinal = u.ordinal"
    ") s WHERE p.metric_id = s.metric_id AND p.time = s.time AND p.identity_id = s.id "
    "AND p.time >= timestamptz 'epoch' + :low * interval '1 microsecond' "
    "AND p.time <= timestamptz 'epoch' + :high * interval '1 microsecond'"
)
_MAX_WRITTEN = 10_000
"""How many shares are written by one statement."""


_SHIFTED = 1800
"""From how many seconds on buckets of one period overlap if they begin in zones whose clocks differ by a part of it."""
_MINUTE_OF = {True: "extract(minute FROM time)", False: "substr(time, 15, 2)"}


class Class(NamedTuple):
    """Points of a metric that are alike: of one source list and one period."""

    source: str
    period: int
    span: int


class Counting:
    """Finds out what counts of the points of a user."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._postgres = connection.dialect.name == "postgresql"

    def update(
        self, user: int, stage: str, metrics: Iterable[str], void: frozenset[str]
    ) -> tuple[bool, pa.RecordBatch | None]:
        """Count anew around the rows of a stage.

        ``metrics`` are those of the stage, ``void`` those of which some rows have a unit that is not known. Return
        whether any point of these metrics may count in part, and the quarters in which a share has changed.
        """
        wanted = [name for name in metrics if is_counted(name)]
        if not wanted:
            return False, None
        classes = self.classes(user, wanted)
        contested = [name for name in wanted if name in void or is_contested(name, classes.get(name, []))]
        if not contested:
            return False, None
        touched: set[tuple[str, str, int]] = set()
        marks = ", ".join(f":m{number}" for number in range(len(contested)))
        ranges = self._connection.execute(
            text(f"SELECT metric, min(time), max(time) FROM {stage} WHERE metric IN ({marks}) GROUP BY metric"),  # noqa: S608
            {f"m{number}": name for number, name in enumerate(contested)},
        ).all()
        for metric, low, high in ranges:
            since, before = (datetime.fromisoformat(each) if isinstance(each, str) else each for each in (low, high))
            touched |= self.resolve(user, metric, since, before, classes.get(metric, []), void=metric in void)
        return True, _quarters_of(touched) if touched else None

    def classes(self, user: int, metrics: Sequence[str]) -> dict[str, list[Class]]:
        """Return what there is of each metric."""
        marks = ", ".join(f":m{number}" for number in range(len(metrics)))
        found = self._connection.execute(
            text(
                "SELECT metric, source, period, span FROM health_metrics WHERE user_id = :user AND record = 'point' "  # noqa: S608
                f"AND period <> {DOUBTFUL} AND metric IN ({marks})"
            ),
            {"user": user, **{f"m{number}": name for number, name in enumerate(metrics)}},
        )
        classes: dict[str, list[Class]] = {}
        for metric, *rest in found:
            classes.setdefault(metric, []).append(Class(*rest))
        return classes

    def resolve(
        self,
        user: int,
        metric: str,
        low: datetime,
        high: datetime,
        classes: Sequence[Class],
        *,
        void: bool = False,
    ) -> set[tuple[str, str, int]]:
        """Count the points of a metric anew from ``low`` to ``high``; return metric, source and quarter of changes."""
        span = reach(metric, classes)
        if not void and self._are_apart(user, metric, move(low, -span), move(high, span), classes):
            return set()
        rows = self._read(user, metric, move(low, -2 * span), move(high, 2 * span))
        if not rows.keys:
            return set()
        shares = self._shares(user, metric, rows)
        since, before = (micros_of(move(low, -span)), micros_of(move(high, span)))
        within = (rows.points.start >= since) & (rows.points.start <= before)
        changed = np.flatnonzero(within & (np.abs(shares - rows.counted) > 1e-12))
        self._write(user, metric, [(_stored(shares[row]), rows.keys[row]) for row in changed.tolist()])
        touched = {
            (metric, rows.keys[row][2], int(rows.points.start[row]) // _QUARTER * _QUARTER) for row in changed.tolist()
        }
        if any(one.period * SECOND > DAY for one in classes):
            self._count_wide(user, metric, low, high)
        return touched

    def _are_apart(self, user: int, metric: str, low: datetime, high: datetime, classes: Sequence[Class]) -> bool:
        """Tell whether no two points say the same time: moments, or buckets of one period, none beginning together.

        Hours begin at the same minute then: in zones of half an hour they begin at others.
        """
        periods = {one.period for one in classes}
        if len(periods) != 1 or metric == nights.METRIC or next(iter(periods)) * SECOND >= DAY:
            return False
        if periods == {0} and any(one.span for one in classes):
            return False
        sql = (
            "SELECT 1 FROM health_points WHERE user_id = :user AND metric = :metric AND time >= :low AND time <= :high "
            "GROUP BY time HAVING count(*) > 1 OR max(counted) IS NOT NULL LIMIT 1"
        )
        ranged = self._ranged(user, metric, low, high)
        if self._connection.execute(text(sql), ranged).first() is not None:
            return False
        if max(periods) < _SHIFTED:
            return True
        minute = _MINUTE_OF[self._postgres]
        sql = (
            f"SELECT min({minute}), max({minute}) FROM health_points "  # noqa: S608
            "WHERE user_id = :user AND metric = :metric AND time >= :low AND time <= :high"
        )
        first, last = self._connection.execute(text(sql), ranged).one()
        return bool(first == last)

    def _ranged(self, user: int, metric: str, low: datetime, high: datetime) -> dict[str, Any]:
        postgres = self._postgres
        return {
            "user": user,
            "metric": metric,
            "low": moment(low, postgres=postgres),
            "high": moment(high, postgres=postgres),
        }

    def _read(
        self, user: int, metric: str, low: datetime, high: datetime, *, wide: bool = False, source: str | None = None
    ) -> LoadedPoints:
        times = "time, end_time"
        if self._postgres:
            times = ", ".join(f"CAST(extract(epoch FROM {name}) * 1000000 AS bigint)" for name in ("time", "end_time"))
        size = f"period > {DAY // SECOND}" if wide else f"(period IS NULL OR period <= {DAY // SECOND})"
        strange = f"CAST(warnings AS text) LIKE '%{UNKNOWN_UNIT}%'"
        fields = "CAST(fields AS text)" if metric == nights.METRIC else "NULL"
        sql = (
            f"SELECT {times}, {', '.join(COLUMNS)}, {strange}, {fields} FROM health_points "  # noqa: S608
            f"WHERE user_id = :user AND metric = :metric AND time >= :low AND time <= :high AND {size} "
            "ORDER BY time, ordinal"
        )
        if source is not None:
            sql = sql.replace(
                " ORDER BY", f" AND {took_part_in('source', ':taking', postgres=self._postgres)} ORDER BY"
            )
        bound = self._ranged(user, metric, low, high) | ({"taking": source} if source is not None else {})
        found = self._connection.execute(text(sql), bound).all()
        return points_of(metric, [tuple(row) for row in found])

    def _shares(self, user: int, metric: str, rows: LoadedPoints) -> np.ndarray[Any, np.dtype[np.float64]]:
        priority = load(self._connection, user, metric)
        shares = np.zeros(len(rows.keys))
        if metric == nights.METRIC:
            return _asleep(rows, priority)
        adding = adds_up(metric, rows.unit)
        for kind in set(rows.kinds):
            mine = np.flatnonzero(~rows.void & np.array([one == kind for one in rows.kinds]))
            shares[mine] = count_shares(rows.points.take(mine), rows.sources, priority, adds_up=adding)
        return shares

    def of_source(
        self, user: int, metric: str, source: str, low: datetime, high: datetime
    ) -> Iterator[tuple[datetime, float | None, float | None, float | None, float]]:
        """Yield the place, value, minimum, maximum and share of the points in which a source took part.

        They are counted as if there were no others. The place of what was summed up by the day or longer is its middle.
        """
        wide = timedelta(days=370)
        for is_wide, margin in ((False, timedelta(hours=27)), (True, wide)):
            rows = self._read(user, metric, move(low, -margin), move(high, margin), wide=is_wide, source=source)
            if rows.keys:
                yield from self._placed(rows, self._shares(user, metric, rows))

    def _placed(self, rows: LoadedPoints, shares: Any) -> Iterator[tuple[datetime, Any, Any, Any, float]]:
        start, period = rows.points.start, rows.points.period
        places = np.where(period >= DAY, start + (rows.points.end - start) // 2, start)
        value = rows.points.value
        for row in np.flatnonzero(shares > 0).tolist():
            said = None if np.isnan(value[row]) else float(value[row])
            yield datetime_of(int(places[row])), said, *rows.extremes[row], float(shares[row])

    def _write(self, user: int, metric: str, changes: Sequence[tuple[float | None, tuple[Any, ...]]]) -> None:
        """Keep the shares: in PostgreSQL of many points in one statement, as one for each takes it a millisecond."""
        of = {"user": user, "metric": metric}
        names = ("t", "e", "source", "kind", "ordinal")
        if not self._postgres:
            rows = [of | dict(zip(names, key, strict=True)) | {"share": share} for share, key in changes]
            if rows:
                self._connection.execute(text(_WRITE), rows)
            return
        for first in range(0, len(changes), _MAX_WRITTEN):
            shares, keys = zip(*changes[first : first + _MAX_WRITTEN], strict=True)
            columns = dict(zip(names, map(list, zip(*keys, strict=True)), strict=True))
            ends = {"low": min(columns["t"]), "high": max(columns["t"])}
            self._connection.execute(text(_WRITE_COMPACT), of | columns | ends | {"share": list(shares)})

    def _count_wide(self, user: int, metric: str, low: datetime, high: datetime) -> None:
        """Let weeks, months and years count what days and shorter points within them do not say."""
        year = timedelta(days=370)
        rows = self._read(user, metric, move(low, -2 * year), move(high, year), wide=True)
        if not rows.keys:
            return
        priority, adding = load(self._connection, user, metric), adds_up(metric, rows.unit)
        shares = np.where(rows.void, 0.0, count_shares(rows.points, rows.sources, priority, adds_up=False))
        for row in np.argsort(rows.points.period, kind="stable").tolist():
            if not shares[row]:
                continue
            said = self._said_within(user, metric, int(rows.points.start[row]), int(rows.points.end[row]))
            shorter = (rows.points.period < rows.points.period[row]) & (rows.points.start >= rows.points.start[row])
            shorter &= rows.points.start < rows.points.end[row]
            value = float(np.nan_to_num(rows.points.value[row]))
            inner = float(np.nansum(rows.points.value[shorter] * shares[shorter]))
            if adding:
                shares[row] = min(1.0, max(0.0, value - said[1] - inner) / value) if value > 0 else 1.0
            elif said[0] or shares[shorter].any():
                shares[row] = 0.0
        changed = np.flatnonzero(np.abs(shares - rows.counted) > 1e-12).tolist()
        self._write(user, metric, [(_stored(shares[row]), rows.keys[row]) for row in changed])

    def _said_within(self, user: int, metric: str, start: int, end: int) -> tuple[int, float]:
        """Return how many points of a day or less are in a time, and what they count."""
        sql = (
            "SELECT count(*), coalesce(sum(value * coalesce(counted, 1)), 0) FROM health_points WHERE user_id = :user "  # noqa: S608
            f"AND metric = :metric AND time >= :low AND time < :high AND (period IS NULL OR period <= {DAY // SECOND})"
        )
        found = self._connection.execute(
            text(sql), self._ranged(user, metric, datetime_of(start), datetime_of(end))
        ).one()
        return int(found[0]), float(found[1])


def is_contested(metric: str, classes: Sequence[Class]) -> bool:
    """Tell whether points of these classes can say the same time: also hours and days of one source, if it travels."""
    return metric == nights.METRIC or len(classes) > 1 or any(one.period >= _SHIFTED for one in classes)


def reach(metric: str, classes: Sequence[Class]) -> timedelta:
    """Return how far apart points may begin that have to do with each other."""
    if metric == nights.METRIC:
        return _SLEEP_REACH
    if any(one.period * SECOND == DAY for one in classes):
        return _DAY_REACH
    longest = max((min(one.span, DAY // SECOND) for one in classes), default=0)
    return timedelta(seconds=longest + 1)


def _stored(share: float) -> float | None:
    return None if abs(share - 1.0) <= 1e-12 else float(share)


def _quarters_of(touched: set[tuple[str, str, int]]) -> pa.RecordBatch:
    metrics, sources, quarters = zip(*sorted(touched), strict=True)
    return pa.RecordBatch.from_pydict(
        {
            "metric": pa.array(metrics, pa.string()),
            "source": pa.array(sources, pa.string()),
            "quarter": pa.array(quarters, pa.int64()).cast(TIME),
        }
    )


def _asleep(rows: LoadedPoints, priority: Priority) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return which share of each segment of sleep is sleep that no other segment says."""
    segments = [
        nights.Segment(
            datetime_of(int(rows.points.start[row])),
            datetime_of(end_of(rows, row)),
            rows.kinds[row],
            key[2],
            None if np.isnan(rows.points.value[row]) or rows.void[row] else float(rows.points.value[row]),
            rows.fields[row],
            None if rows.points.offset[row] == UNKNOWN else int(rows.points.offset[row]) // MINUTE,
            int(rows.points.received[row]),
        )
        for row, key in enumerate(rows.keys)
    ]
    return np.array(nights.shares_asleep(segments, priority), np.float64)
