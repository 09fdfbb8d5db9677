"""How the data of the answers look: what the OpenAPI document says of them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

import msgspec

Aggregation = Literal["sum", "mean", "last", "event"]


class Latest(msgspec.Struct):
    """The newest value of a metric."""

    time: datetime
    value: float | None


class MetricSummary(msgspec.Struct):
    """A metric of which there are points."""

    name: str
    label: str
    unit: str | None
    aggregation: Aggregation
    count: int
    first: datetime
    last: datetime
    latest: Latest


class Point(msgspec.Struct, kw_only=True):
    """A point. Numbers are in ``unit``; ``original`` is what was received, in ``original_unit``.

    ``period`` is how many seconds are summed up in a bucket. ``counted`` is the share of the point that counts in sums
    and means, where it does not count as a whole because others say the same time.
    """

    time: datetime
    end_time: datetime | None
    source: str | None
    kind: str | None
    value: float | None
    minimum: float | None
    maximum: float | None
    unit: str | None
    fields: dict[str, Any] | None
    original: Any
    original_unit: str | None
    offset_minutes: int | None
    warnings: list[dict[str, Any]] | None
    period: int | msgspec.UnsetType | None = msgspec.UNSET
    counted: float | msgspec.UnsetType | None = msgspec.UNSET


class NewestPoint(Point, kw_only=True):
    """The newest point; ``day_total`` is the sum of its day, of a metric that adds up."""

    day_total: float | msgspec.UnsetType | None = msgspec.UNSET


class SeriesPoint(msgspec.Struct):
    """A point of a series of a workout or an ECG."""

    time: datetime
    source: str
    parent: str
    value: float | None
    minimum: float | None
    maximum: float | None
    unit: str | None
    fields: dict[str, Any] | None
    original: Any
    original_unit: str | None
    offset_minutes: int | None
    warnings: list[dict[str, Any]] | None


class DomainPoint(Point):
    """A point, and of which metric it is."""

    metric: str


class Replaced(msgspec.Struct):
    """A value that a later ingest has replaced."""

    time: datetime
    record: str
    key: dict[str, Any]
    value: float | None
    unit: str | None
    original: Any
    original_unit: str | None
    ingest: str
    replaced_by: str
    replaced_at: datetime


class Bucket(msgspec.Struct):
    """An hour, a day, a week, a month or a year of a metric."""

    time: str
    """Its beginning, as local time with its offset."""
    count: int
    sum: float | None
    mean: float | None
    minimum: float | None
    maximum: float | None


class Stage(msgspec.Struct):
    """A stretch of one stage of sleep."""

    stage: str
    start: datetime
    end: datetime
    minutes: float
    source: str


class Totals(msgspec.Struct):
    """Minutes of a night. No minute counts twice, whatever sources saw it."""

    core: float
    deep: float
    rem: float
    awake: float
    in_bed: float
    asleep: float
    unspecified: float


class Night(msgspec.Struct):
    """A night, named by the day of waking up."""

    night: date
    start: datetime
    end: datetime
    sources: list[str]
    stages: list[Stage]
    totals: Totals


class Workout(msgspec.Struct):
    """A workout."""

    id: str
    name: str
    start: datetime
    end: datetime
    duration: float | None
    source: str
    fields: dict[str, Any] | None
    offset_minutes: int | None
    warnings: list[dict[str, Any]] | None
    has_route: bool
    series: list[str]


class OneWorkout(Workout):
    """A workout, and what was received of it (its arrays are its series and its route)."""

    original: Any
    original_unit: str | None


class Source(msgspec.Struct):
    """A source of points: a device or an app."""

    source: str
    count: int
    metrics: int
    first: datetime
    last: datetime


class Quality(msgspec.Struct):
    """How good the data were when they were last looked at."""

    time: datetime
    score: float
    findings: Any
