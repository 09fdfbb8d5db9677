"""The routes by which data leave as files: CSV, Parquet and JSON, streamed in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import pyarrow as pa
from litestar import Response
from litestar.params import Parameter
from sqlalchemy import Connection

from ....platform.web import cursors
from ....platform.web.answers import attachment, flowing, reads
from ....platform.web.paging import Key, Question
from ....platform.web.parameters import Before, Since, listed, missing, window
from ..export import catalogue
from ..export.domains import DOMAINS
from ..reading import files, points
from ..reading.files import Encoder, Part
from ..reading.points import Metric
from .queries import Asked, Name, Types, health

NAMED = {"activity-analytics": "activity"}
"""Other names of domains."""
EVERYTHING = "all"


@reads(
    "/api/v1/export/{what:str}",
    Any,
    "The file. In JSON the rows are in `data`, and `record_count` says how many they are.",
    scope="export",
    files=("text/csv", "application/vnd.apache.parquet"),
)
async def export(
    request: Asked,
    what: Name,
    format: Annotated[
        Literal["json", "csv", "parquet"] | None,
        Parameter(description="Without it, what `Accept` asks for, else JSON."),
    ] = None,
    start_date: Since = None,
    end_date: Before = None,
    metric_types: Types = None,
    include_raw: Annotated[bool, Parameter(description="Whether each row has what was received, as JSON.")] = False,
) -> Response[Any]:
    """Download all, a domain (``heart-rate``, ``nutrition`` ...) or a metric.

    Rows come metric by metric, each in the order of time. A CSV has an apostrophe before texts that a spreadsheet
    would take for a formula; JSON and Parquet hold every text as it was received.
    """
    user, database = request.user.user, health(request).database
    asked = window(start_date, end_date, names=("start_date", "end_date"))
    kind = format or _accepted(request.headers.get("accept", ""))

    def choose(connection: Connection) -> list[Metric]:
        return metrics_of(connection, user, what, listed(metric_types))

    metrics = await database.run(choose)
    now = datetime.now(UTC)
    about = {
        "success": True,
        "error": None,
        "timestamp": now,
        "user_id": user,
        "export_format": kind,
        "date_range": {"start": asked.since, "end": asked.before},
        "metric_types": [metric.name for metric in metrics],
        "export_timestamp": now,
    }
    encoder = _encoder(kind, about, received=include_raw)
    questions = [(metric, metric.stored_question(asked)) for metric in metrics]
    parts = files.parts(database, questions, text_times=encoder.text_times)
    name = attachment(f"health_data_export_{now:%Y%m%d_%H%M%S}.{encoder.extension}")
    return await flowing(_written(encoder, parts), encoder.media_type, name)


def metrics_of(connection: Connection, user: int, what: str, types: list[str]) -> list[Metric]:
    """Return the metrics of the user that are in ``what``; raises ApiError if that is nothing known."""
    mine = points.every(connection, user)
    wanted = {catalogue.canonical(name) for name in types} | set(types)
    domain = NAMED.get(what, what)
    if what == EVERYTHING:
        found = mine
    elif domain in DOMAINS:
        of_domain = {catalogue.canonical(name) for name in DOMAINS[domain].metrics}
        found = [metric for metric in mine if metric.name in of_domain and metric.record == "point"]
    elif what == "workouts":
        found = [metric for metric in mine if metric.record != "point" and metric.name.startswith("workout")]
    else:
        found = [metric for metric in mine if metric.name in (what, catalogue.canonical(what))]
        if not found:
            raise missing("export", what, [EVERYTHING, "workouts", *NAMED, *DOMAINS, *(each.name for each in mine)])
    return [metric for metric in found if not wanted or metric.name in wanted]


def _accepted(accept: str) -> str:
    kinds = {"text/csv": "csv", "application/vnd.apache.parquet": "parquet", "application/json": "json"}
    for part in accept.split(","):
        if kind := kinds.get(part.partition(";")[0].strip().lower()):
            return kind
    return "json"


def _encoder(kind: str, about: dict[str, Any], *, received: bool) -> Encoder:
    schema = pa.schema([*files.COLUMNS, *files.RECEIVED]) if received else files.COLUMNS
    if kind == "json":
        return files.Json(schema, about)
    return files.Csv(schema) if kind == "csv" else files.Parquet(schema)


def _written(encoder: Encoder, parts: Iterator[Part]) -> Iterator[bytes]:
    for part in parts:
        yield encoder.write(part)
    yield encoder.end()


async def page(
    request: Asked,
    question: Callable[[Connection], tuple[Metric, Question]],
    kind: str,
    name: str,
    limit: int | None,
    cursor: str | None,
    asked: tuple[object, ...],
) -> Response[Any]:
    """Return the points of one metric as a file: all, or the ``limit`` that follow ``cursor``.

    With a limit, the header ``x-next-cursor`` is the cursor of the next page.
    """
    database = health(request).database

    def begin(connection: Connection) -> tuple[Metric, Question, Key | None, Key | None]:
        metric, found = question(connection)
        after = cursors.read(cursor, found.ordered, *asked)
        following = found.page(connection, [], limit, after)[1] if limit is not None else None
        return metric, found, after, following

    metric, found, after, following = await database.run(begin)
    encoder = await asyncio.to_thread(_encoder, kind, {}, received=True)
    parts = files.parts(database, [(metric, found)], text_times=encoder.text_times, limit=limit, after=after)
    headers = attachment(f"{name}.{encoder.extension}")
    if following is not None:
        headers["x-next-cursor"] = cursors.written(following, *asked) or ""
    return await flowing(_written(encoder, parts), encoder.media_type, headers)


ROUTES: list[Any] = [export]
