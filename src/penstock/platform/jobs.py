"""Do the jobs of an application when they are due, each by one replica where it says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from ..application import Job
from ..errors import PenstockError
from ..observe.metrics import registry

if TYPE_CHECKING:
    from .application import Platform

RETRY_INTERVAL = 300.0
"""Seconds after which a job that failed is due again, if its interval is not shorter."""
TABLES_INTERVAL = 0.2
"""Seconds between two looks whether the tables of the application are there."""

_BUCKETS = (0.01, 0.1, 1, 5, 15, 60, 300, 1800)
# Prometheus calls by `job` what it asks.
_runs = Counter("penstock_job_runs_total", "Runs of jobs.", ("application", "task", "result"), registry=registry)
_seconds = Histogram(
    "penstock_job_duration_seconds",
    "Time of a run of a job.",
    ("application", "task"),
    buckets=_BUCKETS,
    registry=registry,
)
_succeeded = Gauge(
    "penstock_job_last_success_timestamp_seconds",
    "When a job last succeeded on this replica.",
    ("application", "task"),
    registry=registry,
)


class Jobs:
    """The jobs of one application: a plain timer for each. One that fails is logged and is due again soon."""

    def __init__(self, platform: Platform, jobs: Sequence[Job]) -> None:
        self._platform, self._jobs = platform, jobs
        self._name = platform.application.type_name
        for job in jobs:
            for result in ("success", "failure"):  # so that the first failure is seen as one
                _runs.labels(self._name, job.name, result)

    async def serve(self) -> None:
        """Do each job when it is due until the application stops; waits for those that are running.

        None begins before the tables of the application are there.
        """
        while not self._platform.stop.is_set() and not await self._has_tables():
            await self._wait(TABLES_INTERVAL)
        async with asyncio.TaskGroup() as group:
            for job in self._jobs:
                group.create_task(self._repeat(job))

    async def _has_tables(self) -> bool:
        migrations = self._platform.application.migrations()
        if not self._jobs or migrations is None:
            return True
        from .migration import current  # Its packages are needed only by applications that have tables.

        try:
            return await asyncio.to_thread(current, self._platform.database, migrations.version_table) is not None
        except PenstockError:
            return False

    async def _repeat(self, job: Job) -> None:
        clock = self._platform.clock
        while not self._platform.stop.is_set():
            began = clock.monotonic()
            is_well = await self.do(job)
            interval = job.every if is_well else min(job.every, RETRY_INTERVAL)
            await self._wait(max(0.0, began + interval - clock.monotonic()))

    async def _wait(self, seconds: float) -> None:
        """Wait for so long, or until the application stops."""
        with suppress(TimeoutError):
            async with self._platform.clock.timeout(seconds):
                await self._platform.stop.wait()

    async def do(self, job: Job) -> bool:
        """Do ``job`` once, unless another replica does it or has done it lately; returns whether it did not fail."""
        began = time.perf_counter()
        try:
            result = "success" if await self._do_alone(job) else "elsewhere"
        except Exception as error:  # Whatever it is, the other jobs go on, and this one is tried later.
            known = isinstance(error, PenstockError)
            self._platform.log.error("the job %s failed: %s", job.name, error, exc_info=None if known else error)
            self._count(job, "failure", time.perf_counter() - began)
            return False
        self._count(job, result, time.perf_counter() - began)
        return True

    async def _do_alone(self, job: Job) -> bool:
        """Do the job unless another replica is at it, or was lately; returns whether it was done here."""
        if not job.once_per_cluster or not self._platform.database.is_postgres:  # SQLite has one process
            await job.run(self._platform)
            return True
        with ExitStack() as stack:
            lock = self._platform.database.lock(f"{self._name}/{job.name}")
            is_ours = await asyncio.to_thread(stack.enter_context, lock)
            try:
                if not is_ours or await self._is_recent(job):
                    return False
                await job.run(self._platform)
                return True
            finally:
                await asyncio.to_thread(stack.close)

    async def _is_recent(self, job: Job) -> bool:
        """Whether any replica did it so lately that it is not due."""
        last = await job.last_done(self._platform) if job.last_done is not None else None
        return last is not None and self._platform.clock.time() - last.timestamp() < 0.9 * job.every

    def _count(self, job: Job, result: str, seconds: float) -> None:
        _runs.labels(self._name, job.name, result).inc()
        if result != "elsewhere":
            _seconds.labels(self._name, job.name).observe(seconds)
        if result == "success":
            _succeeded.labels(self._name, job.name).set(self._platform.clock.time())
        if job.on_end is not None:
            job.on_end(result, seconds)
