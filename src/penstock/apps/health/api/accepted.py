"""Ingests that were accepted: how they are found, and handed to the stream."""

from __future__ import annotations

import asyncio
import logging

from ....errors import PenstockError
from ....inputs.feed import feed
from ....platform.web.errors import ApiError
from .. import acceptance
from ..acceptance import Accepted, Outcome
from ..service import Health
from ..store import accounting
from . import answers, bodies

log = logging.getLogger("penstock.health")

HAND_OVER_TIMEOUT = 20.0
"""How long the stream may take to make a row durable, in seconds; a phone waits for about thirty."""


async def accepted_of(health: Health, user: int, ingest: str) -> Accepted:
    """Return what was accepted as ``ingest`` from ``user``; raises ApiError, 404, where there is none.

    An ingest of another user is not there either: nobody is to know of it. Nor is one whose replica keeps its bodies
    for itself.
    """
    accepted = await _accepted(health, user, ingest)
    if accepted is None:
        raise _missing(ingest)
    return accepted


async def outcome_of(health: Health, user: int, ingest: str) -> Outcome:
    """Return how far ``ingest`` is, whichever replica took it; raises ApiError, 404, where ``user`` has no such one."""
    accepted = await _accepted(health, user, ingest)
    outcome = await health.database.run(lambda connection: accounting.outcome(connection, user, ingest))
    if accepted is not None and (outcome is None or outcome.attempt < accepted.attempt):
        return answers.waiting(accepted)
    if outcome is None:
        raise _missing(ingest)
    return outcome


async def _accepted(health: Health, user: int, ingest: str) -> Accepted | None:
    accepted = await asyncio.to_thread(health.raw.receipt, ingest)
    return accepted if accepted is not None and accepted.user == user else None


def _missing(ingest: str) -> ApiError:
    return ApiError(404, "not_found", f"there is no ingest {bodies.clean(ingest)!r}")


async def hand_over(health: Health, accepted: Accepted) -> None:
    """Put ``accepted`` into the stream's log; returns when it is durable there.

    Raises TimeoutError if that is unknown, PenstockError if it was refused.
    """
    health.outcomes.begin(accepted.user, accepted.id)
    try:
        async with asyncio.timeout(HAND_OVER_TIMEOUT):
            await feed("health").send(acceptance.batch(accepted), timeout=2 * HAND_OVER_TIMEOUT)
    except PenstockError:
        health.outcomes.end(accepted.id)
        raise
    await health.raw.settle(accepted.id)


async def announce(health: Health, accepted: Accepted) -> None:
    """Show an ingest in the lists before the stream comes to it; the database may be away, the stream waits for it."""
    try:
        await health.database.run(lambda connection: accounting.announce(connection, accepted), changes=True)
    except PenstockError as error:
        log.warning("ingest %s is accepted, and not in the lists yet: %s", accepted.id, error)
