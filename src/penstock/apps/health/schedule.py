"""What the health service does now and then: look at the quality of the data, drop old points, refresh gauges."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Connection, distinct, func, select

from ...application import Job
from ...platform.access.keys import users_holding
from ...platform.application import Platform
from ...platform.database import Database
from . import metrics, quality
from .schema import ingests, quarantine
from .settings import DAY, Settings
from .store import retention

REFRESH_INTERVAL = 30.0
"""Seconds between two refreshes of the gauges of what the tables hold, if quality is not looked at more often."""
REREAD_INTERVAL = 300.0
"""Seconds between two refreshes of the gauges of quality, which any replica may have looked at."""
PAST = timedelta(days=7)
"""How far back an ingest is looked for that is not processed yet."""


def jobs_of(settings: Settings, access: Database) -> Sequence[Job]:
    """Return the jobs of health; ``access`` is the database of users and keys."""
    interval = settings.quality_interval

    async def refresh_gauges(platform: Platform) -> None:
        users = await access.run(users_holding)
        await platform.database.run(partial(refresh, now=_now(platform), users=len(users)))

    async def reread_findings(platform: Platform) -> None:
        quality.show(await platform.database.run(partial(quality.last, now=_now(platform))))

    async def examine(platform: Platform) -> None:
        users = await access.run(lambda connection: users_holding(connection, "health.ingest"))
        looking = (platform.database, settings, _now(platform), users, platform.stop.is_set)
        await asyncio.to_thread(quality.look, *looking)

    async def last_examined(platform: Platform) -> datetime | None:
        return await platform.database.run(quality.looked)

    async def retain(platform: Platform) -> None:
        await asyncio.to_thread(retention.apply, platform.database, settings, _now(platform))
        await asyncio.to_thread(retention.apply_to_audit, access, settings, _now(platform))

    jobs = [
        _job("gauges", min(REFRESH_INTERVAL, interval), refresh_gauges, once_per_cluster=False),
        _job("findings", min(REREAD_INTERVAL, interval), reread_findings, once_per_cluster=False),
        _job("quality", interval, examine, last_done=last_examined),
    ]
    if settings.retention_months is not None:
        jobs.append(_job("retention", DAY, retain))
    return jobs


def _job(
    name: str,
    every: float,
    run: Callable[[Platform], Awaitable[None]],
    *,
    once_per_cluster: bool = True,
    last_done: Callable[[Platform], Awaitable[datetime | None]] | None = None,
) -> Job:
    metrics.expect(name)
    return Job(name, every, run, once_per_cluster, last_done, partial(metrics.note_run, name))


def _now(platform: Platform) -> datetime:
    return datetime.fromtimestamp(int(platform.clock.time()), UTC)


def refresh(connection: Connection, now: datetime, users: int) -> None:
    """Show as metrics what the tables hold; ingests are found by their ids, which are in the order of time."""
    today = ingests.c.id >= _first_id(now - timedelta(days=1))
    active = connection.execute(select(func.count(distinct(ingests.c.user_id))).where(today)).scalar_one()
    last = connection.execute(select(ingests.c.received_at).order_by(ingests.c.id.desc()).limit(1)).scalar()
    waiting = (ingests.c.id >= _first_id(now - PAST), ingests.c.state.in_(("accepted", "processing")))
    unfinished = select(func.count(), func.min(ingests.c.received_at)).where(*waiting)
    number, oldest = connection.execute(unfinished).one()
    kept = select(func.count()).select_from(quarantine).where(quarantine.c.resolved_at.is_(None))
    metrics.state(
        users=users,
        active=active,
        last_ingest=last.timestamp() if last else 0.0,
        unfinished=number,
        oldest=max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
        quarantined=connection.execute(kept).scalar_one(),
    )


def _first_id(moment: datetime) -> str:
    """Return the least UUID of version 7 that an ingest of ``moment`` can have."""
    return str(uuid.UUID(int=int(moment.timestamp() * 1000) << 80))
