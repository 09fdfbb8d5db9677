"""What the health service does now and then: look at the quality of the data, drop old points, refresh gauges."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, distinct, func, select, text
from sqlalchemy.exc import DBAPIError

from ...context import Context
from ...errors import PenstockError
from ...inputs.feed import feed
from ...platform.access.keys import users_holding
from ...platform.database import Database
from . import metrics, quality
from .schema import ingests, quarantine
from .settings import DAY, Settings
from .store import retention

log = logging.getLogger("penstock.health.schedule")

BEGIN = 0.2
"""How often it is looked whether the stream runs, in seconds."""
REFRESH = 30.0
"""How often the gauges of what the tables hold are refreshed, in seconds, if quality is not looked at more often."""
REREAD = 300.0
"""How often the gauges of the quality of the data are refreshed, which any replica may have looked at."""
PAST = timedelta(days=7)
"""How far back an ingest is looked for that is not processed yet."""
AGAIN = 300.0
"""When a job that failed is due again, if its interval is not shorter."""
_LOCKS = 0x68656C00
"""The first of the numbers by which the jobs are locked in PostgreSQL."""


class Job(NamedTuple):
    """Something that is done every ``interval`` seconds, in a thread."""

    name: str
    interval: float
    run: Callable[[datetime], object]
    done: Callable[[Connection], datetime | None] | None = None
    """When any replica did it last, for a job that one replica does for all; without it, each does it for itself."""


class Schedule:
    """A service that runs jobs: a plain timer. A job that fails is logged and is due again later."""

    def __init__(
        self, settings: Settings, database: Database, access: Database, jobs: Sequence[Job] | None = None
    ) -> None:
        self._settings, self._database, self._access = settings, database, access
        self._stopping = threading.Event()
        self.jobs = list(jobs) if jobs is not None else self._usual()
        for job in self.jobs:
            metrics.expect(job.name)

    def _usual(self) -> list[Job]:
        interval = self._settings.quality_interval
        jobs = [
            Job("gauges", min(REFRESH, interval), self._refresh),
            Job("findings", min(REREAD, interval), self._reread),
            Job("quality", interval, self._look, quality.looked),
        ]
        if self._settings.retention_months is not None:
            jobs.append(Job("retention", DAY, self._retain, lambda connection: None))
        return jobs

    async def serve(self, context: Context, stop: asyncio.Event) -> None:
        """Run each job when it is due until ``stop`` is set; waits for those that are running.

        Begins once the stream runs, whose output makes the tables.
        """
        self._stopping.clear()
        metrics.watch(self._database)
        while not stop.is_set() and not (feed("health").is_open and await self._has_tables()):
            await _wait(stop, BEGIN)
        async with asyncio.TaskGroup() as group:
            for job in self.jobs:
                group.create_task(self._repeat(job, stop))
            await stop.wait()
            self._stopping.set()  # Long jobs look at it.

    async def _has_tables(self) -> bool:
        """Whether the tables are there: the stream takes what is sent before its output has made them."""
        try:
            await self._database.run(lambda connection: connection.execute(select(ingests.c.id).limit(1)).first())
        except PenstockError:
            return False
        return True

    async def _repeat(self, job: Job, stop: asyncio.Event) -> None:
        while not stop.is_set():
            started = time.monotonic()
            well = await asyncio.to_thread(self.run, job)
            until = started + (job.interval if well else min(job.interval, AGAIN))
            await _wait(stop, max(0.0, until - time.monotonic()))

    def run(self, job: Job) -> bool:
        """Run ``job`` unless another replica does, or has done it; returns whether it did not fail."""
        started = time.perf_counter()
        try:
            with self._alone(job) as alone:
                if alone:
                    job.run(datetime.now(UTC).replace(microsecond=0))
        except Exception as error:  # Whatever it is, the other jobs go on, and this one is tried later.
            known = isinstance(error, PenstockError)
            log.error("the job %s failed: %s", job.name, error, exc_info=None if known else error)
            metrics.ran(job.name, "failure", time.perf_counter() - started)
            metrics.failed(type(error).__name__, job.name)
            return False
        metrics.ran(job.name, "success" if alone else "elsewhere", time.perf_counter() - started)
        return True

    @contextmanager
    def _alone(self, job: Job) -> Iterator[bool]:
        """Hold the lock of ``job`` in PostgreSQL; SQLite has one process."""
        if job.done is None or not self._database.is_postgres:
            yield True
            return
        number = {"number": _LOCKS + [one.name for one in self.jobs].index(job.name)}
        try:
            with self._database.pool.connect() as connection:
                locked = connection.scalar(text("SELECT pg_try_advisory_lock(:number)"), number)
                last = job.done(connection) if locked else None
                connection.commit()
                try:
                    yield bool(locked) and not _is_recent(last, job.interval)
                finally:
                    if locked:
                        connection.execute(text("SELECT pg_advisory_unlock(:number)"), number)
                        connection.commit()
        except DBAPIError as error:
            original = error.orig if isinstance(error.orig, Exception) else error
            raise self._database.classify_error(original) from error

    def _refresh(self, now: datetime) -> None:
        users = self._access.call(users_holding)
        self._database.call(lambda connection: refresh(connection, now, len(users)))

    def _reread(self, now: datetime) -> None:
        quality.show(self._database.call(lambda connection: quality.last(connection, now)))

    def _look(self, now: datetime) -> None:
        users = self._access.call(lambda connection: users_holding(connection, "health.ingest"))
        quality.look(self._database, self._settings, now, users, self._stopping.is_set)

    def _retain(self, now: datetime) -> None:
        retention.apply(self._database, self._settings, now)
        retention.apply_to_audit(self._access, self._settings, now)


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


def _is_recent(last: datetime | None, interval: float) -> bool:
    return last is not None and (datetime.now(UTC) - last).total_seconds() < 0.9 * interval


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
