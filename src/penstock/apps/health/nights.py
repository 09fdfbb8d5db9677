"""Nights: which stages of sleep followed one another, and how long each was, no minute counted twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, func, select

from .aggregation import SLEEP
from .compact import of_metric
from .priority import Priority, split
from .schema import DOUBTFUL, metrics, points

METRIC = SLEEP
AGGREGATED = "aggregated"
STAGED = ("core", "deep", "rem")
ASLEEP = (*STAGED, "asleep", "unspecified")
TOTALS = ("core", "deep", "rem", "awake", "in_bed", "unspecified")
APART = timedelta(hours=3)
"""Longer without any stage, and another sleep begins."""
EVENING = timedelta(hours=6)
"""How long before midnight a sleep that ends then belongs to the next morning's night."""
MAX_NIGHT = timedelta(days=3)
"""How much longer than the window is read, for sleeps that reach into it."""
MAX_LENGTH = timedelta(days=1)
"""A longer stretch is neither a stage nor a night: it is kept with the points, and belongs to no night."""
_MAX_MINUTES = MAX_LENGTH / timedelta(minutes=1)


class Segment(NamedTuple):
    """A stretch of one stage, or a night as the phone had added it up."""

    start: datetime
    end: datetime
    stage: str
    source: str
    minutes: float | None
    fields: str | None
    offset: int | None
    received: Any
    """Greater for what was received later."""


Spans = list[tuple[datetime, datetime]]
Night = tuple[date, list[Segment]]


def last(connection: Connection, user: int) -> datetime | None:
    """Return when the last sleep ended, of those whose time can be right."""
    c, m = points.c, metrics.c
    known = (m.user_id == user, m.metric == METRIC, m.period != DOUBTFUL)
    begun: datetime | None = connection.scalar(select(func.max(m.last)).where(*known))
    if begun is None:
        return None
    statement = select(func.max(c.end_time)).where(c.user_id == user, c.metric == METRIC, c.time == begun)
    ended: datetime | None = connection.scalar(statement)
    return ended if ended is not None and ended - begun <= MAX_LENGTH else begun


def load(connection: Connection, user: int, since: datetime, before: datetime) -> list[Segment]:
    """Return the segments that begin in a time, in order."""
    c = points.c
    statement = (
        select(c.time, c.end_time, c.kind, c.source, c.value, c.fields, c.offset_minutes, c.ingest_id)
        .where(of_metric(user, METRIC), c.time >= since, c.time < before)
        .order_by(c.time, c.end_time)
    )
    return [Segment(*row) for row in connection.execute(statement)]


def nights(
    connection: Connection,
    user: int,
    first: date,
    after: date,
    zone: tzinfo | None,
    priority: Priority,
    source: str | None = None,
) -> list[dict[str, Any]]:
    """Return the nights from that of ``first`` to the one before ``after``, each named by the day of waking up.

    Without a ``zone`` a night's day is that of the local time which the phone sent. With a ``source``, only what it
    took part in counts.
    """
    since = datetime.combine(max(first, date.min + MAX_NIGHT), time(), UTC) - MAX_NIGHT
    before = datetime.combine(min(after, date.max - MAX_NIGHT), time(), UTC) + MAX_NIGHT
    segments = load(connection, user, since, before)
    if source is not None:
        segments = [segment for segment in segments if source == segment.source or source in split(segment.source)]
    measured, summed = _by_night(segments, zone)
    every = {night: _measured(night, of, zone, priority) for night, of in measured.items()}
    for night, of in summed.items():
        if _knows_more(of, measured.get(night, [])):
            every[night] = _added_up(night, of, zone, priority)
            every[night]["stages"] = _stages(measured[night], zone) if night in measured else []
    return [every[night] for night in sorted(every) if first <= night < after]


def shares_asleep(segments: Sequence[Segment], priority: Priority) -> list[float]:
    """Return of each segment the share of its minutes that is sleep which no other segment says."""
    ordered = sorted(segments, key=attrgetter("start", "end"))
    measured, summed = _by_night(ordered, None)
    credited: dict[int, float] = {}
    fuller = {night for night, of in summed.items() if _knows_more(of, measured.get(night, []))}
    for of in (of for night, of in measured.items() if night not in fuller):
        for segment, spans in _credit(of, priority):
            if segment.stage in ASLEEP and segment.minutes and segment.minutes > 0:
                credited[id(segment)] = _minutes(spans) / segment.minutes
    for night in fuller:
        for segment in _fullest(summed[night], priority):
            if segment.minutes is not None and 0 <= segment.minutes <= _MAX_MINUTES:
                credited[id(segment)] = 1.0
    return [credited.get(id(segment), 0.0) for segment in segments]


def _by_night(
    segments: Iterable[Segment], zone: tzinfo | None
) -> tuple[dict[date, list[Segment]], dict[date, list[Segment]]]:
    """Return the stages of each night, and the nights as the phone had added them up."""
    possible = [segment for segment in segments if timedelta(0) <= segment.end - segment.start <= MAX_LENGTH]
    stages = (segment for segment in possible if segment.stage != AGGREGATED)
    measured = _collect(_night(sleep, zone) for sleep in _sleeps(stages))
    return measured, _collect(_night([s], zone) for s in possible if s.stage == AGGREGATED)


def _sleeps(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Part segments, in the order of their starts, where long nothing is said."""
    sleep: list[Segment] = []
    until = datetime.min.replace(tzinfo=UTC)
    for segment in segments:
        if sleep and segment.start - until > APART:
            yield sleep
            sleep = []
        until = max(until, segment.end) if sleep else segment.end
        sleep.append(segment)
    if sleep:
        yield sleep


def _zone(segments: Sequence[Segment], zone: tzinfo | None) -> tzinfo:
    if zone is not None:
        return zone
    return timezone(timedelta(minutes=max(segments, key=attrgetter("end")).offset or 0))


def _night(segments: list[Segment], zone: tzinfo | None) -> Night:
    end = max(segment.end for segment in segments)
    try:
        return (end.astimezone(_zone(segments, zone)) + EVENING).date(), segments
    except OverflowError:  # The last hours that there are.
        return end.date(), segments


def _collect(sleeps: Iterable[Night]) -> dict[date, list[Segment]]:
    found: dict[date, list[Segment]] = {}
    for night, segments in sleeps:
        found.setdefault(night, []).extend(segments)
    return found


def _measured(night: date, segments: list[Segment], zone: tzinfo | None, priority: Priority) -> dict[str, Any]:
    stages, totals = _stages(segments, zone), _totals(segments, priority)
    return _frame(night, segments, _zone(segments, zone)) | {"stages": stages, "totals": totals}


def _stages(segments: list[Segment], zone: tzinfo | None) -> list[dict[str, Any]]:
    local = _zone(segments, zone)
    return [
        {
            "stage": segment.stage,
            "start": segment.start.astimezone(local),
            "end": segment.end.astimezone(local),
            "minutes": _minutes([(segment.start, segment.end)]),
            "source": segment.source,
        }
        for segment in segments
    ]


def _knows_more(summed: Sequence[Segment], measured: Sequence[Segment]) -> bool:
    """Tell whether nights as the phone added them up know sources that no stage is of, and all that stages are of."""
    if not measured:
        return True
    known = frozenset().union(*(split(segment.source) for segment in measured))
    return any(known < split(segment.source) for segment in summed if _possible(segment.minutes))


def _added_up(night: date, segments: list[Segment], zone: tzinfo | None, priority: Priority) -> dict[str, Any]:
    """Return a night of which only the sums are known; what is longer than a day is left out."""
    totals = dict.fromkeys((*TOTALS, "asleep"), 0.0)
    for segment in _fullest(segments, priority):
        fields: dict[str, Any] = msgspec.json.decode(segment.fields) if segment.fields else {}
        parts = {name: _possible(fields.get(name)) for name in TOTALS}
        asleep = _possible(segment.minutes) or _possible(fields.get("asleep"))
        parts["asleep"] = asleep or sum(parts[name] for name in (*STAGED, "unspecified"))
        totals = {name: totals[name] + parts[name] for name in totals}
    return _frame(night, segments, _zone(segments, zone)) | {"totals": totals}


def _fullest(segments: Sequence[Segment], priority: Priority) -> list[Segment]:
    """Return of the nights that overlap the one that is believed, and each that is apart."""
    kept: list[Segment] = []
    believed = [segment for segment in segments if not any(_outdoes(other, segment) for other in segments)]
    for segment in sorted(believed, key=lambda s: (_place_of(s.source, priority), -_possible(s.minutes))):
        if not any(_overlap(segment, other) for other in kept):
            kept.append(segment)
    return kept


def _outdoes(one: Segment, other: Segment) -> bool:
    """Tell whether a night as it was added up knows more sources of the same night, or was received later."""
    if not _overlap(one, other) or not _possible(one.minutes):
        return False
    more, fewer = split(one.source), split(other.source)
    return fewer < more or (fewer == more and (one.received, one.minutes) > (other.received, other.minutes or 0))


def _overlap(one: Segment, other: Segment) -> bool:
    return one.start <= other.end and other.start <= one.end


def _frame(night: date, segments: list[Segment], zone: tzinfo) -> dict[str, Any]:
    return {
        "night": night,
        "start": min(segment.start for segment in segments).astimezone(zone),
        "end": max(segment.end for segment in segments).astimezone(zone),
        "sources": sorted({segment.source for segment in segments}),
    }


def _possible(value: Any) -> float:
    """Return minutes as a number; 0 for what cannot be."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= _MAX_MINUTES else 0.0


def _totals(segments: Sequence[Segment], priority: Priority) -> dict[str, float]:
    """Add the stages up so that no minute counts twice."""
    spans: dict[str, Spans] = {name: [] for name in TOTALS}
    for segment, credited in _credit(segments, priority):
        name = "unspecified" if segment.stage == "asleep" else segment.stage
        if name in spans:
            spans[name] += credited
    totals = {name: _minutes(_union(found)) for name, found in spans.items()}
    asleep = [span for name in (*STAGED, "unspecified") for span in spans[name]]
    return totals | {"asleep": _minutes(_union(asleep))}


def _credit(segments: Sequence[Segment], priority: Priority) -> Iterator[tuple[Segment, Spans]]:
    """Yield each segment with the times for which it is believed.

    Where several sources saw the same time, the first that the person has chosen is believed, else the one with the
    most staged sleep; the others tell what it did not see. Of one source, a stage is believed before sleep of unknown
    stage, and what was received later before what it replaces.
    """
    by_source = [list(group) for _, group in groupby(sorted(segments, key=lambda s: s.source), lambda s: s.source)]
    by_source.sort(key=lambda own: (_place_of(own[0].source, priority), [-minutes for minutes in _staged(own)]))
    seen: Spans = []
    for own in by_source:
        yield from ((s, [(s.start, s.end)]) for s in own if s.stage == "in_bed")
        stages = [s for s in own if s.stage in ASLEEP or s.stage == "awake"]
        for _, alike in groupby(sorted(stages, key=_belief), _belief):
            for segment in sorted(alike, key=attrgetter("received", "start"), reverse=True):
                credited = _without(_union([(segment.start, segment.end)]), seen)
                yield segment, credited
                if credited:
                    seen = _union(seen + credited)


def _belief(segment: Segment) -> int:
    return 0 if segment.stage in (*STAGED, "awake") else 1


def _place_of(source: str, priority: Priority) -> int:
    """Return the place in the order that the person chose; all others come after it alike."""
    places = [priority.chosen.index(name) for name in split(source) if name in priority.chosen]
    return min(places, default=len(priority.chosen))


def _staged(segments: Sequence[Segment]) -> tuple[float, float]:
    def of(*stages: str) -> float:
        return _minutes(_union([(s.start, s.end) for s in segments if s.stage in stages]))

    return of(*STAGED), of(*ASLEEP)


def _union(spans: Spans) -> Spans:
    joined: Spans = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        elif end > start:
            joined.append((start, end))
    return joined


def _without(spans: Spans, seen: Spans) -> Spans:
    """Return what of ``spans`` is not in ``seen``; both are in order and do not overlap themselves."""
    left: Spans = []
    first = 0
    for start, end in spans:
        while first < len(seen) and seen[first][1] <= start:
            first += 1
        following = first
        while following < len(seen) and seen[following][0] < end:
            if seen[following][0] > start:
                left.append((start, seen[following][0]))
            start = max(start, seen[following][1])
            following += 1
        if start < end:
            left.append((start, end))
    return left


def _minutes(spans: Spans) -> float:
    return round(sum((end - start).total_seconds() for start, end in spans) / 60, 3)
