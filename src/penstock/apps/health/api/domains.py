"""The routes of the domains of health data: one implementation over the table of domains."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from litestar import Response
from litestar.params import Parameter
from sqlalchemy import Connection

from ....platform.web.answers import Payload, reads
from ....platform.web.paging import Window
from ....platform.web.parameters import Before, Since, listed, missing, window
from ..reading import domains, summaries
from ..reading.domains import KINDS
from . import shapes
from .queries import Asked, Source, Types, answered

DAYS = timedelta(days=30)
SUMMED = ("heart-rate", "blood-pressure", "sleep", "activity", "workouts")
"""The domains of the summary."""
_NAMES = ("start_date", "end_date")


@reads("/api/v1/data/{kind:str}", list[shapes.DomainPoint], "A page of the points of a domain.")
async def data(
    request: Asked,
    kind: Annotated[str, Parameter(max_length=100, description="A domain.", schema_extra={"enum": sorted(KINDS)})],
    start_date: Since = None,
    end_date: Before = None,
    metric_types: Types = None,
    source: Source = None,
    of_kind: Annotated[
        str | None,
        Parameter(pattern="^[^\\x00-\\x1f\\x7f]*$", max_length=500, description="One symptom, stage, event ..."),
    ] = None,
    page: Annotated[int, Parameter(ge=1, le=100_000)] = 1,
    limit: Annotated[int, Parameter(ge=1, le=1000)] = 100,
    offset: Annotated[int, Parameter(ge=0, le=10_000_000, description="Rows to leave out before the first page.")] = 0,
    sort: Annotated[Literal["asc", "desc"], Parameter(description="By time.")] = "desc",
) -> Response[Any]:
    """Return the points of a domain, what they amount to, and how many there are.

    ``summary`` has count, first, last, mean, minimum and maximum of each metric, and ``facts`` what is said of this
    domain alone. A row of ``workouts`` is a workout.
    """
    user = request.user.user

    def read(connection: Connection) -> Payload:
        if kind not in KINDS:
            raise missing("domain", kind, KINDS)
        asked = domains.Asked(
            user, kind, window(start_date, end_date, names=_NAMES), listed(metric_types), source, of_kind
        )
        return _page(connection, asked, page, limit, offset, descending=sort == "desc")

    return await answered(request, read)


def _page(
    connection: Connection, asked: domains.Asked, page: int, limit: int, offset: int, *, descending: bool
) -> Payload:
    names = domains.metrics(connection, asked)
    summary = summaries.summary(connection, asked, names)
    count = sum(row["count"] for row in summary.values())
    skip = (page - 1) * limit + offset
    rows = domains.rows(connection, asked, list(summary), limit, skip, descending=descending) if skip < count else []
    return {
        "data": rows,
        "pagination": {"page": page, "limit": limit, "has_next": skip + limit < count, "has_prev": skip > 0},
        "total_count": count,
        "metric_types": names,
        "date_range": _range(summary),
        "summary": summary,
        "facts": summaries.facts(connection, asked) if count else {},
    }


def _range(summary: dict[str, dict[str, Any]]) -> Payload | None:
    if not summary:
        return None
    return {"start": min(row["first"] for row in summary.values()), "end": max(row["last"] for row in summary.values())}


@reads("/api/v1/data/summary", dict[str, Any], "Of each domain, what its metrics amount to.")
async def summary(request: Asked, start_date: Since = None, end_date: Before = None) -> Response[Any]:
    """Return what heart rate, blood pressure, sleep, activity and workouts amount to, the last 30 days by default."""
    user = request.user.user

    def read(connection: Connection) -> Payload:
        since, before = window(start_date, end_date, names=_NAMES)
        until = before or datetime.now(UTC)
        if since is None:
            since = max(until, datetime.min.replace(tzinfo=UTC) + DAYS) - DAYS
        found = {}
        for kind in SUMMED:
            asked = domains.Asked(user, kind, Window(since, before))
            of_kind = summaries.summary(connection, asked, domains.metrics(connection, asked))
            found[kind.replace("-", "_")] = {
                "count": sum(row["count"] for row in of_kind.values()),
                "metrics": of_kind,
                "facts": summaries.facts(connection, asked) if of_kind else {},
            }
        return {"data": found, "date_range": {"start": since.date(), "end": until.date()}}

    return await answered(request, read)


ROUTES: list[Any] = [data, summary]
