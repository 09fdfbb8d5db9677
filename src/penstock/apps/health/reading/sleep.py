"""The nights of a person: which stages of sleep followed one another, and how long each was in all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, select

from ..schema import points

METRIC = "sleep_analysis"
AGGREGATED = "aggregated"
ASLEEP = ("core", "deep", "rem", "asleep", "unspecified")
TOTALS = ("core", "deep", "rem", "awake", "in_bed", "unspecified")
APART = timedelta(hours=3)
"""Longer without any stage, and another sleep begins."""
EVENING = timedelta(hours=6)
"""How long before midnight a sleep that ends then belongs to the next morning's night."""
MAX_NIGHT = timedelta(days=3)
"""How much longer than the window is read, for sleeps that reach into it."""


class Segment(NamedTuple):
    """A stretch of one stage, or a night as the phone had added it up."""

    start: datetime
    end: datetime
    stage: str
    source: str
    minutes: float | None
    fields: str | None
    offset: int | None


def last(connection: Connection, user: int) -> datetime | None:
    """Return when the last sleep ended."""
    statement = (
        select(points.c.end_time)
        .where(points.c.user_id == user, points.c.metric == METRIC)
        .order_by(points.c.time.desc())
        .limit(1)
    )
    return connection.scalar(statement)


def nights(connection: Connection, user: int, first: date, after: date, zone: tzinfo | None) -> list[dict[str, Any]]:
    """Return the nights from that of ``first`` to the one before ``after``, each named by the day of waking up.

    Without a ``zone`` a night's day is that of the local time which the phone sent.
    """
    since = datetime.combine(max(first, date.min + MAX_NIGHT), time(), UTC) - MAX_NIGHT
    before = datetime.combine(min(after, date.max - MAX_NIGHT), time(), UTC) + MAX_NIGHT
    c = points.c
    statement = (
        select(c.time, c.end_time, c.kind, c.source, c.value, c.fields, c.offset_minutes)
        .where(c.user_id == user, c.metric == METRIC, c.time >= since, c.time < before)
        .order_by(c.time, c.end_time)
    )
    segments = [Segment(*row) for row in connection.execute(statement)]
    stages = (segment for segment in segments if segment.stage != AGGREGATED)
    found = _by_night((_night(sleep, zone) for sleep in _sleeps(stages)), first, after)
    summed = _by_night((_night([s], zone) for s in segments if s.stage == AGGREGATED), first, after)
    every = {night: _added_up(night, of, zone) for night, of in summed.items()}
    every |= {night: _measured(night, of, zone) for night, of in found.items()}
    return [every[night] for night in sorted(every)]


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


def _night(segments: list[Segment], zone: tzinfo | None) -> tuple[date, list[Segment]]:
    end = max(segment.end for segment in segments)
    try:
        return (end.astimezone(_zone(segments, zone)) + EVENING).date(), segments
    except OverflowError:  # The last hours that there are.
        return end.date(), segments


def _by_night(sleeps: Iterable[tuple[date, list[Segment]]], first: date, after: date) -> dict[date, list[Segment]]:
    found: dict[date, list[Segment]] = {}
    for night, segments in sleeps:
        if first <= night < after:
            found.setdefault(night, []).extend(segments)
    return found


def _measured(night: date, segments: list[Segment], zone: tzinfo | None) -> dict[str, Any]:
    local = _zone(segments, zone)
    return _frame(night, segments, local) | {
        "stages": [
            {
                "stage": segment.stage,
                "start": segment.start.astimezone(local),
                "end": segment.end.astimezone(local),
                "minutes": _minutes([(segment.start, segment.end)]),
                "source": segment.source,
            }
            for segment in segments
        ],
        "totals": _totals(segments),
    }


def _added_up(night: date, segments: list[Segment], zone: tzinfo | None) -> dict[str, Any]:
    """Return a night of which only the sums are known: those of the source that saw most of it."""
    fullest = max(segments, key=lambda segment: segment.minutes or 0.0)
    fields: dict[str, Any] = msgspec.json.decode(fullest.fields) if fullest.fields else {}
    totals = {name: _number(fields.get(name)) for name in TOTALS}
    asleep = fullest.minutes if fullest.minutes is not None else _number(fields.get("asleep"))
    return _frame(night, segments, _zone(segments, zone)) | {"stages": [], "totals": totals | {"asleep": asleep}}


def _frame(night: date, segments: list[Segment], zone: tzinfo) -> dict[str, Any]:
    return {
        "night": night,
        "start": min(segment.start for segment in segments).astimezone(zone),
        "end": max(segment.end for segment in segments).astimezone(zone),
        "sources": sorted({segment.source for segment in segments}),
    }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


Spans = list[tuple[datetime, datetime]]


def _totals(segments: Sequence[Segment]) -> dict[str, float]:
    """Add the stages up so that no minute counts twice.

    Where several sources saw the same time, the one with the most staged sleep is believed, and the others tell what it
    did not see.
    """
    spans: dict[str, Spans] = {name: [] for name in TOTALS}
    seen: Spans = []
    by_source = [list(group) for _, group in groupby(sorted(segments, key=lambda s: s.source), lambda s: s.source)]
    for own in sorted(by_source, key=_staged, reverse=True):
        for stage, group in groupby(sorted(own, key=lambda s: s.stage), lambda s: s.stage):
            name = "unspecified" if stage not in TOTALS else stage
            stretch = _union([(s.start, s.end) for s in group])
            spans[name] += stretch if name == "in_bed" else _without(stretch, seen)
        seen = _union(seen + [(s.start, s.end) for s in own if s.stage != "in_bed"])
    totals = {name: _minutes(_union(found)) for name, found in spans.items()}
    asleep = [span for name in ("core", "deep", "rem", "unspecified") for span in spans[name]]
    return totals | {"asleep": _minutes(_union(asleep))}


def _staged(segments: Sequence[Segment]) -> tuple[float, float]:
    def of(*stages: str) -> float:
        return _minutes(_union([(s.start, s.end) for s in segments if s.stage in stages]))

    return of("core", "deep", "rem"), of(*ASLEEP)


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
