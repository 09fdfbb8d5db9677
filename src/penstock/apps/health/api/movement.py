"""The routes of workouts: what was done, the series of it, and the way over ground."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from litestar import Response
from litestar.params import Parameter
from sqlalchemy import Connection, select

from ....platform.web import cursors
from ....platform.web.answers import Page, Payload, attachment, flowing, reads
from ....platform.web.paging import Window
from ....platform.web.parameters import Cursor, End, Limit, Start, missing, window, wrong
from ..reading import points, tracks, workouts
from ..schema import routes, series
from ..schema import workouts as table
from ..store import places
from . import shapes
from .queries import Asked, Name, Source, answered, health

GEOJSON = "application/geo+json"
GPX = "application/gpx+xml"
_NUMBER = "-?[0-9]{1,3}([.][0-9]{1,15})?"
Sort = Annotated[Literal["asc", "desc"], Parameter(description="By time: the oldest or the newest first.")]


@reads("/api/v1/workouts", list[shapes.Workout], "A page of workouts.", envelope=Page)
async def listing(
    request: Asked,
    start: Start = None,
    end: End = None,
    source: Source = None,
    sort: Sort = "desc",
    limit: Annotated[int, Parameter(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> Response[Any]:
    """Return the workouts that begin in a window, the newest first."""
    user = request.user.user
    asked = (user, "workouts", start, end, source, sort)

    def read(connection: Connection) -> Payload:
        question = workouts.question(user, window(start, end), source, descending=sort == "desc")
        after = cursors.read(cursor, question.ordered, *asked)
        rows, following = workouts.page(connection, user, question, limit, after)
        return {"data": rows, "next_cursor": cursors.written(following, *asked)}

    return await answered(request, read)


@reads("/api/v1/workouts/{workout:str}", shapes.OneWorkout, "The workout.")
async def one(request: Asked, workout: Name) -> Response[Any]:
    """Return a workout with what was received of it."""
    user = request.user.user

    def read(connection: Connection) -> Payload:
        found = workouts.one(connection, user, workout)
        if found is None:
            raise missing("workout", workout)
        return {"data": found}

    return await answered(request, read)


@reads(
    "/api/v1/workouts/{workout:str}/series/{metric:str}", list[shapes.SeriesPoint], "A page of points.", envelope=Page
)
async def series_of(
    request: Asked,
    workout: Name,
    metric: Name,
    start: Start = None,
    end: End = None,
    sort: Sort = "asc",
    limit: Limit = 10_000,
    cursor: Cursor = None,
) -> Response[Any]:
    """Return a series of a workout, or of an ECG by its id, in the order of time."""
    user = request.user.user
    asked = (user, workout, metric, start, end, sort)

    def read(connection: Connection) -> Payload:
        name = metric.removeprefix("workout_")
        of = [series.c.user_id == user, series.c.parent_id == workout]
        if connection.execute(select(series.c.time).where(*of, series.c.metric == name).limit(1)).first() is None:
            known = points.skipped(connection, series.c.metric, *of)
            if not known and workouts.one(connection, user, workout) is None:
                raise missing("workout", workout)
            raise missing("series", metric, known)
        question = workouts.series_question(user, workout, name, window(start, end), descending=sort == "desc")
        after = cursors.read(cursor, question.ordered, *asked)
        rows, following = points.page(connection, question, limit, after)
        return {"data": rows, "next_cursor": cursors.written(following, *asked)}

    return await answered(request, read)


@reads(
    "/api/v1/workouts/{workout:str}/route",
    Any,
    "The route, or a page of its points in the envelope.",
    files=(GEOJSON, GPX),
)
async def route(
    request: Asked,
    workout: Name,
    format: Annotated[Literal["geojson", "gpx", "json"], Parameter(description="`gpx` is a file.")] = "geojson",
    limit: Annotated[int, Parameter(ge=1, le=10_000, description="Of `json`: how many points at most.")] = 10_000,
    cursor: Cursor = None,
) -> Response[Any]:
    """Return the way of a workout over ground. GeoJSON and GPX are of all of it, however long."""
    user = request.user.user
    asked = (user, workout, "route")

    def read(connection: Connection) -> Payload:
        _properties(connection, user, workout)
        question = workouts.route_question(user, workout)
        after = cursors.read(cursor, question.ordered, *asked)
        rows, following = points.page(connection, question, limit, after)
        return {"data": rows, "next_cursor": cursors.written(following, *asked)}

    if format == "json":
        return await answered(request, read)
    database = health(request).database
    properties = await database.run(lambda connection: _properties(connection, user, workout))
    chunks = tracks.chunks(database, user, workout)
    if format == "gpx":
        start = properties["start"]
        name = f"{properties['name']} {start:%Y-%m-%d}" if start else properties["name"]
        named = attachment(f"workout_{workout}.gpx")
        return await flowing(tracks.gpx(chunks, name, properties["name"]), GPX, named)
    return await flowing(tracks.feature(chunks, properties), GEOJSON, {})


def _properties(connection: Connection, user: int, workout: str) -> Payload:
    """Say whose route it is; raises ApiError if there is none."""
    statement = select(table.c.name, table.c.time).where(table.c.user_id == user, table.c.id == workout)
    found = connection.execute(statement).first()
    mine = select(routes.c.time).where(routes.c.user_id == user, routes.c.parent_id == workout)
    if connection.execute(mine.limit(1)).first() is None:
        raise missing("route of a workout" if found else "workout", workout)
    return {"workout": workout, "name": found.name if found else "Route", "start": found.time if found else None}


@reads("/api/v1/routes", Any, "A GeoJSON collection: a line for each route.", files=(GEOJSON,))
async def found_routes(
    request: Asked,
    near: Annotated[
        str | None, Parameter(pattern=f"^{_NUMBER},{_NUMBER}$", max_length=50, description="latitude,longitude")
    ] = None,
    distance: Annotated[float, Parameter(gt=0, le=20_100_000, description="In metres, around `near`.")] = 1000.0,
    bbox: Annotated[
        str | None,
        Parameter(pattern=f"^{_NUMBER}(,{_NUMBER}){{3}}$", max_length=100, description="west,south,east,north"),
    ] = None,
    start: Start = None,
    end: End = None,
    limit: Annotated[int, Parameter(ge=1, le=200, description="How many routes at most, the newest first.")] = 50,
) -> Response[Any]:
    """Find routes by place: those that come near a point, or through a box. West of a box may be greater than east."""
    user = request.user.user
    if near is not None and bbox is not None:
        raise wrong("bbox", "cannot be combined with 'near'")
    point = _numbers("near", near, ((-90.0, 90.0), (-180.0, 180.0)))
    box = _numbers("bbox", bbox, ((-180.0, 180.0), (-90.0, 90.0), (-180.0, 180.0), (-90.0, 90.0)))
    if box and box[1] > box[3]:
        raise wrong("bbox", "has its south above its north; expected west,south,east,north")
    asked = window(start, end)

    def read(connection: Connection) -> list[Payload]:
        ids: list[str] | None = None
        if point:
            ids = list(places.within(connection, user, (point[0], point[1]), distance))
        elif box:
            ids = list(places.inside(connection, user, (box[0], box[1], box[2], box[3])))
        return _found(connection, user, asked, ids, limit)

    database = health(request).database
    found = await database.run(read)
    features = (tracks.feature(tracks.chunks(database, user, each["workout"]), each) for each in found)
    return await flowing(tracks.collection(features), GEOJSON, {})


def _numbers(parameter: str, text: str | None, ranges: tuple[tuple[float, float], ...]) -> list[float] | None:
    if text is None:
        return None
    values = [float(part) for part in text.split(",")]
    for value, (low, high) in zip(values, ranges, strict=True):
        if not low <= value <= high:
            raise wrong(parameter, f"holds {value:g}, which is not between {low:g} and {high:g}")
    return values


def _found(connection: Connection, user: int, asked: Window, ids: list[str] | None, limit: int) -> list[Payload]:
    """Return the properties of the newest of these routes."""
    statement = select(table.c.id, table.c.name, table.c.time).where(table.c.user_id == user)
    statement = statement.where(*asked.of(table.c.time)).order_by(table.c.time.desc(), table.c.id)
    if ids is None:
        begun = workouts.has(connection, routes, routes.c.parent_id == table.c.id)
        rows = connection.execute(statement.where(begun).limit(limit)).all()
    else:
        rows = [row for part in _split(ids) for row in connection.execute(statement.where(table.c.id.in_(part)))]
        rows = sorted(rows, key=lambda row: row.time, reverse=True)[:limit]
    return [{"workout": row.id, "name": row.name, "start": row.time} for row in rows]


def _split(ids: list[str], size: int = 500) -> Iterator[list[str]]:
    return (ids[begin : begin + size] for begin in range(0, len(ids), size))


ROUTES: list[Any] = [listing, one, series_of, route, found_routes]
