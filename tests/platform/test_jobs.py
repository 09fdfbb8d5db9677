"""Jobs of applications: when they are due, what becomes of those that fail, and who of several replicas does them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from penstock.application import Application, Installation, Job, Migrations
from penstock.observe.metrics import registry
from penstock.platform.application import Platform
from penstock.platform.jobs import RETRY_INTERVAL, Jobs
from penstock.platform.migration import migrate
from penstock.testing.clock import FakeClock, run_jumping
from penstock.testing.contexts import lend_context

Run = Callable[[Platform], Awaitable[None]]


class Chores(Application, type="chores"):
    """An application that has nothing but jobs."""


class Tabled(Application, type="tabled"):
    """An application whose jobs need tables."""

    scripts: Path

    def migrations(self) -> Migrations:
        """Return a step without tables."""
        return Migrations(self.scripts, "tabled_version")


@contextlib.asynccontextmanager
async def lent(application: Application, data: Path, database: str = "") -> AsyncIterator[Platform]:
    async with lend_context(data) as context, asyncio.TaskGroup() as tasks:
        context = dataclasses.replace(context, clock=FakeClock())
        installation = Installation(data=data, database=database)
        platform = Platform(application, installation, context, logging.getLogger("test"), asyncio.Event(), tasks)
        yield platform
        await platform.close()


def value(name: str, task: str, **labels: str) -> float:
    found = registry.get_sample_value(f"penstock_job_{name}", {"application": "chores", "task": task, **labels})
    return found or 0.0


async def serve(platform: Platform, jobs: Sequence[Job], seconds: float) -> None:
    serving = asyncio.create_task(Jobs(platform, jobs).serve())
    await asyncio.sleep(seconds)
    platform.stop.set()
    await serving


def test_jobs_run_at_once_and_then_at_their_intervals(tmp_path: Path) -> None:
    began: dict[str, list[float]] = {"often": [], "seldom": []}

    def noting(name: str) -> Run:
        async def run(platform: Platform) -> None:
            began[name].append(round(platform.clock.monotonic()))

        return run

    async def main() -> None:
        async with lent(Chores(), tmp_path) as platform:
            jobs = [Job(name, every, noting(name)) for name, every in (("often", 60.0), ("seldom", 3600.0))]
            await serve(platform, jobs, 200)

    before = value("runs_total", "often", result="success")
    run_jumping(main())
    assert began == {"often": [0, 60, 120, 180], "seldom": [0]}
    assert value("runs_total", "often", result="success") - before == 4
    assert value("duration_seconds_count", "seldom") >= 1
    assert value("last_success_timestamp_seconds", "seldom") > 0


def test_a_job_that_fails_is_logged_and_tried_sooner_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[float] = []
    went_on: list[float] = []
    ends: list[str] = []

    async def fail(platform: Platform) -> None:
        tried.append(round(platform.clock.monotonic()))
        raise ZeroDivisionError("by nothing")

    async def go_on(platform: Platform) -> None:
        went_on.append(platform.clock.monotonic())

    async def main() -> None:
        async with lent(Chores(), tmp_path) as platform:
            failing = Job("failing", 86_400.0, fail, on_end=lambda result, _: ends.append(result))
            await serve(platform, [failing, Job("other", 100.0, go_on)], 2 * RETRY_INTERVAL + 1)

    with caplog.at_level(logging.ERROR):
        run_jumping(main())
    assert tried == [0, RETRY_INTERVAL, 2 * RETRY_INTERVAL]
    assert ends == ["failure"] * 3
    assert len(went_on) == 7
    assert "the job failing failed: by nothing" in caplog.text


def test_it_waits_for_the_job_that_runs_and_stops_at_once_between_jobs(tmp_path: Path) -> None:
    ended: list[str] = []

    async def work(platform: Platform) -> None:
        await asyncio.sleep(50)
        ended.append("work")

    async def main() -> float:
        async with lent(Chores(), tmp_path) as platform:
            await serve(platform, [Job("working", 3600.0, work)], 10)
            return platform.clock.monotonic()

    assert run_jumping(main()) == pytest.approx(50)
    assert ended == ["work"]

    async def idle(platform: Platform) -> None: ...

    async def between() -> float:
        async with lent(Chores(), tmp_path) as platform:
            await serve(platform, [Job("idle", 3600.0, idle)], 10)
            return platform.clock.monotonic()

    assert run_jumping(between()) == pytest.approx(10)


async def test_no_job_begins_before_the_tables_are_there(tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "0001_nothing.py").write_text(
        'revision = "0001"\ndown_revision = None\nbranch_labels = None\ndepends_on = None\n\n\n'
        "def upgrade():\n    pass\n"
    )
    ran = asyncio.Event()

    async def run(platform: Platform) -> None:
        ran.set()

    async with lent(Tabled(scripts=scripts), tmp_path) as platform:
        serving = asyncio.create_task(Jobs(platform, [Job("early", 3600.0, run)]).serve())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ran.wait(), 0.5)
        await asyncio.to_thread(migrate, platform.database, scripts, "tabled_version")
        await asyncio.wait_for(ran.wait(), 60)
        platform.stop.set()
        await serving


async def test_it_stops_before_the_tables_are_ever_there(tmp_path: Path) -> None:
    async def run(platform: Platform) -> None:
        raise AssertionError("there are no tables")

    async with lent(Tabled(scripts=tmp_path), tmp_path) as platform, asyncio.timeout(60):
        serving = asyncio.create_task(Jobs(platform, [Job("early", 3600.0, run)]).serve())
        await asyncio.sleep(0.01)
        platform.stop.set()
        await serving


@pytest.mark.server
async def test_only_one_of_two_replicas_does_a_job_at_a_time(postgres_database: str, tmp_path: Path) -> None:
    """The second one finds the lock held while the first is at work, and gets it afterwards."""
    working, may_end = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def work(platform: Platform) -> None:
        working.set()
        await may_end.wait()
        done.append("first")

    async def other(platform: Platform) -> None:
        done.append("second")

    async with (
        lent(Chores(), tmp_path / "a", postgres_database) as one,
        lent(Chores(), tmp_path / "b", postgres_database) as two,
    ):
        before = value("runs_total", "shared", result="elsewhere")
        first = asyncio.create_task(Jobs(one, []).do(Job("shared", 3600.0, work)))
        await asyncio.wait_for(working.wait(), 60)
        assert await Jobs(two, []).do(Job("shared", 3600.0, other))
        assert done == []
        assert value("runs_total", "shared", result="elsewhere") - before == 1
        assert await Jobs(two, []).do(Job("own", 3600.0, other, once_per_cluster=False))
        may_end.set()
        assert await first
        assert await Jobs(two, []).do(Job("shared", 3600.0, other))
    assert done == ["second", "first", "second"]


@pytest.mark.server
async def test_a_job_that_another_replica_did_lately_is_not_due(postgres_database: str, tmp_path: Path) -> None:
    ran: list[str] = []
    last = timedelta(minutes=30)

    async def run(platform: Platform) -> None:
        ran.append("ran")

    async def last_done(platform: Platform) -> datetime:
        return datetime.fromtimestamp(platform.clock.time(), UTC) - last

    async with lent(Chores(), tmp_path, postgres_database) as platform:
        job = Job("shared", 3600.0, run, last_done=last_done)
        assert await Jobs(platform, []).do(job)
        assert ran == []
        last = timedelta(hours=1)
        assert await Jobs(platform, []).do(job)
        assert ran == ["ran"]


@pytest.mark.server
async def test_the_lock_is_given_back_when_the_job_fails(postgres_database: str, tmp_path: Path) -> None:
    async def fail(platform: Platform) -> None:
        raise ZeroDivisionError

    def locks(connection: Any) -> int:
        return int(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")))

    async with lent(Chores(), tmp_path, postgres_database) as platform:
        for _ in range(2):
            assert not await Jobs(platform, []).do(Job("shared", 3600.0, fail))
        assert await platform.database.run(locks) == 0
