"""Ingests as jobs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from litestar import Response, delete, get
from litestar.params import FromPath
from sqlalchemy import Connection, func, select

from ....platform.web.answers import reads
from ....platform.web.errors import ApiError
from ..acceptance import Counts, Outcome
from ..schema import ingests
from . import answers
from .accepted import accepted_of, outcome_of
from .ingests import Following, Ingest, InState, Page, documented_list, list_ingests
from .queries import Asked, answered, health
from .uploads import CONFLICT, failures

_STATUSES: dict[str, str] = {
    "accepted": "queued",
    "processing": "processing",
    "processed": "completed",
    "failed": "failed",
}


class Job(msgspec.Struct, kw_only=True):
    """An ingest as a job."""

    id: str
    type: Literal["ingest"] = "ingest"
    status: str
    attempt: int
    created_at: datetime | None
    completed_at: datetime | None
    counts: Counts
    error: str | None
    status_url: str


def _job_of(told: Ingest | Outcome) -> Job:
    return Job(
        id=told.id,
        status=_STATUSES[told.state],
        attempt=told.attempt,
        created_at=told.received_at,
        completed_at=told.completed_at,
        counts=told.counts,
        error=told.error,
        status_url=answers.status_url(told.id),
    )


@get("/api/v1/jobs", **documented_list(list[Job], "The ingests as jobs, the newest first."))
async def jobs(request: Asked, in_state: InState = None, limit: Page = 50, cursor: Following = None) -> Response[Any]:
    """Return the ingests as jobs, the newest first."""

    def read(connection: Connection) -> Mapping[str, Any]:
        found, following = list_ingests(connection, request.user.user, in_state, limit, cursor)
        return {"data": [_job_of(told) for told in found], "next_cursor": following}

    return await answered(request, read)


@reads("/api/v1/jobs/stats", dict[str, int], "How many jobs are in which state.")
async def statistics(request: Asked) -> Response[Any]:
    """Return how many ingests are in which state."""
    user = request.user.user
    counted = select(ingests.c.state, func.count()).where(ingests.c.user_id == user).group_by(ingests.c.state)

    def read(connection: Connection) -> Mapping[str, Any]:
        found = {_STATUSES[state]: count for state, count in connection.execute(counted)}
        data = {status: found.get(status, 0) for status in _STATUSES.values()}
        return {"data": data | {"total": sum(data.values())}}

    return await answered(request, read)


@reads("/api/v1/jobs/{ingest_id:str}", Job, "An ingest as a job.")
async def job(request: Asked, ingest_id: FromPath[str]) -> Response[Any]:
    """Return an ingest as a job."""
    found = await outcome_of(health(request), request.user.user, ingest_id)
    return await answered(request, lambda _: {"data": _job_of(found)})


@delete(
    "/api/v1/jobs/{ingest_id:str}",
    opt={"scope": "ingest", "limit": "ingest"},
    status_code=409,
    responses=failures(401, 403, 429, **CONFLICT),
)
async def cancel(request: Asked, ingest_id: FromPath[str]) -> None:
    """Refuse to cancel: what was accepted is processed."""
    accepted = await accepted_of(health(request), request.user.user, ingest_id)
    message = f"what was accepted is never dropped; once it is processed, DELETE /api/v1/data/{accepted.id} deletes it"
    raise ApiError(409, "conflict", message)


ROUTES = [jobs, statistics, job, cancel]
