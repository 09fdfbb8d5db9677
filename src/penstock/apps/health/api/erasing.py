"""The deletion of an ingest and of what it wrote."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, delete
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter
from sqlalchemy import Connection, func, or_, select

from ....errors import PenstockError
from ....platform.web.answers import Answer
from ....platform.web.errors import ApiError
from .. import compact
from ..acceptance import Accepted
from ..schema import TRACKED, history, ingests, of_user, parts, points, quarantine, stored
from ..service import Health
from ..store.doubt import AHEAD
from ..store.recounting import recount_metric
from ..store.session import lock
from ..store.upkeep import recount
from .accepted import accepted_of, hand_over
from .quarantine import note_attempt
from .queries import Asked, answered, health
from .uploads import CONFLICT, failures

log = logging.getLogger("penstock.health")

Id = Annotated[str, PathParameter(description="The id of the ingest.")]
"""It is called ``kind`` in the path because GET /api/v1/data/{kind} is: one path has one name for its part."""
_DONE = ("processed", "failed")


class Deleted(msgspec.Struct, kw_only=True):
    """What was deleted, and which ingests are processed again because values of theirs had been replaced."""

    deleted: dict[str, int]
    reprocessed: list[str]


@delete(
    "/api/v1/data/{kind:str}",
    opt={"scope": "admin", "limit": "admin"},
    status_code=200,
    responses=failures(401, 403, 429, 503, **CONFLICT)
    | {200: ResponseSpec(Answer[Deleted], generate_examples=False, description="It is deleted.")},
)
async def erase(request: Asked, kind: Id) -> Response[Any]:
    """Delete an ingest: the points it wrote last, what is remembered of it, and its body.

    Where it had replaced the values of earlier ingests, those are processed again, so that their values come back.
    What later ingests sent once more without a change is deleted with it: to process them again brings it back.
    """
    whole, user = health(request), request.user.user
    accepted = await accepted_of(whole, user, kind)
    earlier = await whole.database.run(lambda connection: _replaced(connection, accepted))
    again = [await note_attempt(whole, other) for other in await _with_bodies(whole, earlier)]
    deleted = await whole.database.run(lambda connection: _erase(connection, accepted), changes=True)
    await whole.raw.remove(accepted.id)
    await whole.gate.audit.record("data_deleted", caller=request.user, resource=accepted.id, details=deleted)
    for other in again:
        try:
            await hand_over(whole, other)
        except (PenstockError, TimeoutError) as error:
            log.error("ingest %s waits for the next start, the stream does not take it: %s", other.id, error)
    return await answered(
        request, lambda _: {"data": Deleted(deleted=deleted, reprocessed=[other.id for other in again])}
    )


async def _with_bodies(health: Health, ingests: Sequence[str]) -> list[Accepted]:
    """Those of which the bodies are still kept."""
    found = [await asyncio.to_thread(health.raw.receipt, ingest) for ingest in ingests]
    return [accepted for accepted in found if accepted is not None]


def _replaced(connection: Connection, accepted: Accepted) -> list[str]:
    """The ingests of which values were replaced; raises ApiError while ``accepted`` is not processed."""
    state = connection.execute(
        select(ingests.c.state, ingests.c.attempt).where(ingests.c.id == accepted.id)
    ).one_or_none()
    if state is None or state.state not in _DONE or state.attempt < accepted.attempt:
        raise ApiError(409, "conflict", "the ingest is still being processed; delete it afterwards")
    replaced = select(history.c.ingest_id).where(
        history.c.user_id == accepted.user, history.c.replaced_by == accepted.id, history.c.ingest_id != accepted.id
    )
    return sorted(connection.execute(replaced.distinct()).scalars())


def _erase(connection: Connection, accepted: Accepted) -> dict[str, int]:
    """Delete what there is of an ingest, bring the sums up to date, and count the points."""
    ingest, user, counted = accepted.id, accepted.user, {}
    lock(connection, [user])
    touched = _touched(connection, accepted)
    for name in TRACKED:
        table = stored(name, postgres=connection.dialect.name == "postgresql")
        gone = table.delete().where(of_user(table, user), table.c.ingest_id == ingest)
        counted[name] = connection.execute(gone).rowcount
    compact.forget_unused(connection, user)
    past = or_(history.c.ingest_id == ingest, history.c.replaced_by == ingest)
    connection.execute(history.delete().where(history.c.user_id == user, past))
    for table, column in ((quarantine, "ingest_id"), (parts, "ingest_id"), (ingests, "id")):
        connection.execute(table.delete().where(table.c[column] == ingest))
    recount(connection, user, datetime.now(UTC) + AHEAD)
    for metric, first, last in touched:
        recount_metric(connection, user, metric, first, last)
    return counted


def _touched(connection: Connection, accepted: Accepted) -> list[tuple[str, datetime, datetime]]:
    """Of each metric of which points are to be deleted, the time in which they are."""
    c = points.c
    mine = select(c.metric, func.min(c.time), func.max(c.time)).where(
        c.user_id == accepted.user, c.ingest_id == accepted.id
    )
    return [(metric, first, last) for metric, first, last in connection.execute(mine.group_by(c.metric))]


ROUTES = [erase]
