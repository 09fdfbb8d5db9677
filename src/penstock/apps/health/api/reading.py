"""The routes by which a person's data are read: metrics, sleep, sources, quality."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response
from litestar.params import Parameter
from sqlalchemy import Connection, select

from ....platform.web import cursors
from ....platform.web.answers import Page, Payload, reads
from ....platform.web.paging import Question, Window
from ....platform.web.parameters import Cursor, End, Limit, Start, Zone, missing, window, wrong, zone_of
from .. import nights as sleep
from ..priority import load
from ..reading import newest, overview, points
from ..reading.points import Metric
from ..schema import quality
from ..store import rollups
from ..store.calendar import TooManyBuckets
from . import exporting, movement, shapes
from .queries import Asked, Name, Source, answered

Sort = Annotated[Literal["asc", "desc"], Parameter(description="By time: the oldest or the newest first.")]
Format = Annotated[
    Literal["json", "csv", "parquet"],
    Parameter(description="`csv` and `parquet` are files: of all that is asked for, unless there is a `limit`."),
]
FIELD = '^[^"\\\\\\x00-\\x1f\\x7f]+$'
NIGHTS = 400
"""How many nights an answer can have."""
FILES = ("text/csv", "application/vnd.apache.parquet")
EARLIEST = datetime(1, 1, 2, tzinfo=UTC)


def metric_of(connection: Connection, user: int, name: str) -> Metric:
    """Return the metric, or refuse with what may have been meant."""
    metric = points.find(connection, user, name)
    if metric is None:
        raise missing("metric", name, [metric.name for metric in points.every(connection, user)])
    return metric


def paged(connection: Connection, question: Question, limit: int, cursor: str | None, *asked: object) -> Payload:
    """Return a page of points and the cursor of the next."""
    after = cursors.read(cursor, question.ordered, *asked)
    rows, following = points.page(connection, question, limit, after)
    return {"data": rows, "next_cursor": cursors.written(following, *asked)}


@reads("/api/v1/metrics", list[shapes.MetricSummary], "All metrics of which there are points, by name.")
async def metrics(request: Asked) -> Response[Any]:
    """List the metrics, known or not, with their unit, how many points there are, and the newest value."""
    user = request.user.user
    return await answered(request, lambda connection: {"data": overview.metrics(connection, user)})


@reads("/api/v1/metrics/{name:str}", list[shapes.Point], "A page of points, or a file.", envelope=Page, files=FILES)
async def metric(
    request: Asked,
    name: Name,
    start: Start = None,
    end: End = None,
    source: Source = None,
    sort: Sort = "asc",
    limit: Annotated[int | None, Parameter(ge=1, le=10_000, description="How many rows; 1000 for JSON.")] = None,
    cursor: Cursor = None,
    format: Format = "json",
) -> Response[Any]:
    """Return the points of a metric in the order of time.

    The name is one that an ingest counts by, so ``workout_heart_rate``, ``ecg_voltage``, ``workout_route`` and
    ``workouts`` are names too. A cursor stays valid while points arrive: none is repeated and none left out.
    """
    user = request.user.user
    asked = (user, name, start, end, source, sort)

    def question(connection: Connection) -> tuple[Metric, Question]:
        found = metric_of(connection, user, name)
        return found, found.question(window(start, end), source, descending=sort == "desc")

    if format != "json":
        return await exporting.page(request, question, format, name, limit, cursor, asked)
    return await answered(
        request, lambda connection: paged(connection, question(connection)[1], limit or 1000, cursor, *asked)
    )


@reads("/api/v1/metrics/{name:str}/aggregate", list[shapes.Bucket], "The buckets that have points, in order.")
async def aggregate(
    request: Asked,
    name: Name,
    by: Annotated[
        Literal["hour", "day", "week", "month", "year"], Parameter(description="Weeks begin on Monday.")
    ] = "day",
    timezone: Zone = None,
    start: Start = None,
    end: End = None,
    source: Source = None,
    field: Annotated[
        str | None,
        Parameter(pattern=FIELD, max_length=100, description="A number of `fields`, not the value."),
    ] = None,
) -> Response[Any]:
    """Aggregate a metric by hour, day, week, month or year of a time zone.

    Where the clock changes, days have 23 or 25 hours.
    """
    user = request.user.user

    def read(connection: Connection) -> Payload:
        zone = zone_of(timezone or "UTC")
        found = metric_of(connection, user, name)
        since, before = window(start, end, zone or UTC)
        zoned = timezone or "UTC"
        there = rollups.extent(connection, user, found.name)
        ended = there is not None and since is not None and since >= rollups.until(found.name, there)
        if there is None or ended or (before and before <= there["first"]):
            return {"data": [], **overview.described(connection, found)}
        try:
            buckets = rollups.aggregate(connection, user, found.name, by, zoned, since, before, source, field)
        except TooManyBuckets as error:
            raise wrong("by", f"is too fine: {error}") from None
        except OverflowError:
            raise wrong("start", "and 'end' leave a range that reaches beyond the calendar; narrow it") from None
        return {"data": buckets, **overview.described(connection, found)}

    return await answered(request, read)


@reads("/api/v1/metrics/{name:str}/latest", shapes.NewestPoint | None, "The newest point.")
async def latest(request: Asked, name: Name, source: Source = None) -> Response[Any]:
    """Return the newest point of a metric; null if this source has none.

    Of a metric that adds up, ``day_total`` is the sum of its day. A point whose date cannot be right is not the newest.
    """
    user = request.user.user

    def read(connection: Connection) -> Payload:
        found = metric_of(connection, user, name)
        there = rollups.extent(connection, user, found.name)
        until = Window(None, there["last"] + timedelta(microseconds=1)) if there else window(None, None)
        rows, _ = points.page(connection, found.question(until, source, descending=True), 1, None)
        total = newest.day_total(connection, user, found.name) if rows and source is None else None
        return {"data": rows[0] | ({"day_total": total} if total is not None else {}) if rows else None}

    return await answered(request, read)


@reads(
    "/api/v1/metrics/{name:str}/history", list[shapes.Replaced], "A page of values that were replaced.", envelope=Page
)
async def history(
    request: Asked,
    name: Name,
    start: Start = None,
    end: End = None,
    sort: Sort = "desc",
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> Response[Any]:
    """Return the values of a metric that later ones have replaced: what was known, and which ingest changed it."""
    user = request.user.user
    asked = (user, name, "history", start, end, sort)

    def read(connection: Connection) -> Payload:
        found = metric_of(connection, user, name)
        question = points.replaced(found, window(start, end), descending=sort == "desc")
        after = cursors.read(cursor, question.ordered, *asked)
        rows, following = question.page(connection, list(points.REPLACED.values()), limit, after)
        return {
            "data": points.payload(list(points.REPLACED), rows),
            "next_cursor": cursors.written(following, *asked),
        }

    return await answered(request, read)


@reads("/api/v1/sleep/nights", list[shapes.Night], "The nights of which anything is known, in order.")
async def nights(request: Asked, start: Start = None, end: End = None, timezone: Zone = None) -> Response[Any]:
    """Return nights: the stages that followed one another, and the minutes of each stage.

    A night has the date of waking up; what ends after 18:00 belongs to the next. Without a start they are the last 31
    nights before the end; without an end, up to the last there is. At most 400 nights at once.
    """
    user = request.user.user

    def read(connection: Connection) -> Payload:
        zone = zone_of(timezone)
        first, after = _days(connection, user, start, end, zone or UTC)
        return {"data": sleep.nights(connection, user, first, after, zone, load(connection, user, sleep.METRIC))}

    return await answered(request, read)


def _days(connection: Connection, user: int, start: str | None, end: str | None, zone: tzinfo) -> tuple[date, date]:
    since, before = window(start, end, zone)
    if before is not None:
        after = _day(max(before, EARLIEST) - timedelta(microseconds=1), zone, 1)
    else:
        last = sleep.last(connection, user) or datetime.now(UTC)
        after = _day(last, zone, 2) if since is None else min(_day(last, zone, 2), _day(since, zone, NIGHTS))
    first = _day(since, zone, 0) if since is not None else date.fromordinal(max(1, after.toordinal() - 31))
    if (after - first).days > NIGHTS:
        raise wrong("start", f"is more than {NIGHTS} nights before the end")
    return first, after


def _day(moment: datetime, zone: tzinfo, later: int) -> date:
    try:
        day = moment.astimezone(zone).date()
    except OverflowError:
        day = moment.date()
    return date.fromordinal(min(day.toordinal() + later, date.max.toordinal()))


@reads("/api/v1/sources", list[shapes.Source], "All sources, the one with the most points first.")
async def sources(request: Asked) -> Response[Any]:
    """List the devices and apps that points came from."""
    user = request.user.user
    return await answered(request, lambda connection: {"data": overview.sources(connection, user)})


@reads("/api/v1/data-quality", shapes.Quality | None, "The newest report; null before the first.")
async def data_quality(request: Asked) -> Response[Any]:
    """Return how complete and fresh the data are: a score of 0 to 100, and what was found."""
    user = request.user.user

    def read(connection: Connection) -> Payload:
        statement = (
            select(quality.c.time, quality.c.score, quality.c.findings)
            .where(quality.c.user_id == user)
            .order_by(quality.c.time.desc())
            .limit(1)
        )
        row = connection.execute(statement).first()
        report = {"time": row.time, "score": row.score, "findings": msgspec.Raw(row.findings.encode())} if row else None
        return {"data": report}

    return await answered(request, read)


ROUTES: list[Any] = [metrics, metric, aggregate, latest, history, nights, sources, data_quality, *movement.ROUTES]
