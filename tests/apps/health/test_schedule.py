import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select

from penstock.apps.health import schedule
from penstock.apps.health.schedule import Job, Schedule, refresh
from penstock.apps.health.schema import ingests, quarantine
from penstock.apps.health.schema import quality as looks
from penstock.apps.health.settings import Settings
from penstock.apps.health.store.migrations import migrate
from penstock.inputs.feed import Feed
from penstock.observe.metrics import registry
from penstock.platform.access import schema as access
from penstock.platform.access.keys import users_holding
from penstock.platform.access.schema import audit, keys, users
from penstock.platform.database import Database
from penstock.testing.contexts import lend_context
from penstock.testing.servers import PostgresServer

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


def value(name: str, **labels: str) -> float:
    return registry.get_sample_value(f"health_export_{name}", labels) or 0.0


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Database]:
    """A SQLite database with the tables of the service."""
    database = Database.of(f"sqlite:///{tmp_path}/a.db")
    migrate(database)
    database.call(access.metadata.create_all)
    yield database
    database.close()


@pytest.fixture
def postgres(postgis_database: str) -> Iterator[Database]:
    """A PostgreSQL database with the tables of the service."""
    database = Database.of(postgis_database)
    migrate(database)
    database.call(access.metadata.create_all)
    yield database
    database.close()


def serve(service: Schedule, until: Callable[[], bool], seconds: float = 10.0) -> float:
    """Serve until something is so; returns how long the service then took to stop."""

    async def run() -> float:
        stop = asyncio.Event()
        async with lend_context(Path("unused")) as context, Feed(name="health").open(context):
            serving = asyncio.create_task(service.serve(context, stop))
            async with asyncio.timeout(seconds):
                while not await asyncio.to_thread(until):
                    assert not serving.done()
                    await asyncio.sleep(0.01)
            stop.set()
            stopped = time.monotonic()
            await serving
            return time.monotonic() - stopped

    return asyncio.run(run())


def test_jobs_run_at_once_and_then_at_their_intervals(embedded: Database) -> None:
    often: list[datetime] = []
    seldom: list[datetime] = []
    jobs = [Job("often", 0.05, often.append), Job("seldom", 3600, seldom.append)]
    runs = value("job_runs_total", task="often", result="success")
    serve(Schedule(Settings(), embedded, embedded, jobs), lambda: len(often) >= 3)
    assert len(seldom) == 1
    assert value("job_runs_total", task="often", result="success") - runs == len(often)
    assert value("job_duration_seconds_count", task="seldom") >= 1
    assert value("job_last_success_timestamp_seconds", task="seldom") == pytest.approx(time.time(), abs=60)
    assert value("db_connections_max") == 8


async def test_nothing_is_done_before_the_stream_runs(embedded: Database) -> None:
    ran: list[datetime] = []
    stop = asyncio.Event()
    service = Schedule(Settings(), embedded, embedded, [Job("early", 3600, ran.append)])
    async with lend_context(Path("unused")) as context:
        serving = asyncio.create_task(service.serve(context, stop))
        await asyncio.sleep(0.05)
        assert ran == []
        async with asyncio.timeout(10), Feed(name="health").open(context):
            while not ran:  # noqa: ASYNC110 - it happens in a thread
                await asyncio.sleep(0.01)
        stop.set()
        await serving


async def test_nothing_is_done_before_the_tables_are_there(tmp_path: Path) -> None:
    ran: list[datetime] = []
    stop, database = asyncio.Event(), Database.of(f"sqlite:///{tmp_path}/new.db")
    service = Schedule(Settings(), database, database, [Job("early", 3600, ran.append)])
    async with lend_context(Path("unused")) as context, Feed(name="health").open(context):
        serving = asyncio.create_task(service.serve(context, stop))
        await asyncio.sleep(0.3)
        assert ran == []
        await asyncio.to_thread(migrate, database)
        async with asyncio.timeout(10):
            while not ran:  # noqa: ASYNC110 - it happens in a thread
                await asyncio.sleep(0.01)
        stop.set()
        await serving
    await asyncio.to_thread(database.close)


async def test_it_stops_before_the_stream_ever_ran(embedded: Database) -> None:
    stop = asyncio.Event()
    service = Schedule(Settings(), embedded, embedded)
    async with lend_context(Path("unused")) as context, asyncio.timeout(5):
        serving = asyncio.create_task(service.serve(context, stop))
        await asyncio.sleep(0.01)
        stop.set()
        await serving


def test_a_job_that_fails_is_logged_and_tried_again_and_the_others_go_on(
    embedded: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[datetime] = []

    def fails(now: datetime) -> None:
        ran.append(now)
        raise ZeroDivisionError("by nothing")

    failures = value("job_runs_total", task="fails", result="failure")
    service = Schedule(Settings(), embedded, embedded, [Job("fails", 0.05, fails), Job("other", 0.05, ran.append)])
    with caplog.at_level(logging.ERROR):
        serve(service, lambda: len(ran) >= 6)
    assert "the job fails failed: by nothing" in caplog.text
    assert value("job_runs_total", task="fails", result="failure") - failures >= 2
    assert value("errors_total", error_type="ZeroDivisionError", endpoint="fails", severity="error") >= 2


def test_a_failed_job_does_not_wait_for_its_whole_interval(embedded: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "AGAIN", 0.05)
    ran: list[datetime] = []

    def fails_once(now: datetime) -> None:
        ran.append(now)
        if len(ran) == 1:
            raise ConnectionError

    serve(Schedule(Settings(), embedded, embedded, [Job("once", 3600, fails_once)]), lambda: len(ran) == 2)


def test_it_stops_at_once_between_jobs_and_waits_for_the_one_that_runs(embedded: Database) -> None:
    started, ended = threading.Event(), threading.Event()

    def slow(_: datetime) -> None:
        started.set()
        time.sleep(0.3)
        ended.set()

    service = Schedule(Settings(), embedded, embedded, [Job("slow", 3600, slow)])
    assert serve(service, started.is_set) > 0.1
    assert ended.is_set()
    idle = Schedule(Settings(), embedded, embedded, [Job("idle", 3600, lambda _: None)])
    done = value("job_runs_total", task="idle", result="success")
    assert serve(idle, lambda: value("job_runs_total", task="idle", result="success") > done) < 0.2


def test_the_usual_jobs_run(embedded: Database) -> None:
    user = embedded.call(lambda connection: _user(connection, "me"))

    def looked() -> bool:
        rows = embedded.call(lambda connection: connection.execute(looks.select()).fetchall())
        return [row.user_id for row in rows] == [user] and value("users") == 1

    serve(Schedule(Settings(), embedded, embedded), looked)
    assert value("quality_users", finding="silence") == 1


def test_retention_runs_where_months_are_given(embedded: Database) -> None:
    assert "retention" not in [job.name for job in Schedule(Settings(), embedded, embedded).jobs]
    service = Schedule(Settings(retention_months=24), embedded, embedded)
    about = {"action": "ingest_accepted", "outcome": "success"}
    kept = [{"id": str(age), "time": NOW - timedelta(days=age * 30.5), **about} for age in (23, 26)]
    embedded.call(lambda connection: connection.execute(insert(audit), kept))
    assert [job.name for job in service.jobs if service.run(job)] == ["gauges", "findings", "quality", "retention"]
    assert embedded.call(lambda connection: connection.scalars(select(audit.c.id)).all()) == ["23"]


@pytest.mark.server
def test_only_one_of_two_replicas_runs_a_job(postgres: Database) -> None:
    ran: list[str] = []

    def replica(name: str) -> Schedule:
        def run(_: datetime) -> None:
            ran.append(name)
            time.sleep(0.3)

        return Schedule(Settings(), postgres, postgres, [Job("shared", 3600, run, lambda _: None)])

    elsewhere = value("job_runs_total", task="shared", result="elsewhere")
    services = [replica("a"), replica("b")]
    threads = [threading.Thread(target=service.run, args=(service.jobs[0],)) for service in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ran) == 1
    assert value("job_runs_total", task="shared", result="elsewhere") - elsewhere == 1
    services[0].run(services[0].jobs[0])
    assert len(ran) == 2


@pytest.mark.server
def test_a_job_that_another_replica_did_lately_is_not_due(postgres: Database) -> None:
    ran: list[datetime] = []
    last = NOW - HOUR / 2

    service = Schedule(Settings(), postgres, postgres, [Job("shared", 3600, ran.append, lambda _: last)])
    assert service.run(service.jobs[0])
    assert ran == []
    last = NOW - HOUR
    assert service.run(service.jobs[0])
    assert len(ran) == 1


@pytest.mark.server
def test_a_lock_is_given_back_when_the_job_fails(postgres: Database) -> None:
    ran: list[datetime] = []

    def fails(now: datetime) -> None:
        ran.append(now)
        raise ZeroDivisionError

    service = Schedule(Settings(), postgres, postgres, [Job("shared", 3600, fails, lambda _: None)])
    assert not service.run(service.jobs[0])
    assert not service.run(service.jobs[0])
    assert len(ran) == 2


@pytest.mark.server
def test_it_outlives_its_database(postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    database = Database.of(postgres_server.create_database(postgis=True))
    migrate(database)
    database.call(access.metadata.create_all)
    service = Schedule(Settings(), database, database)
    exclusive = next(job for job in service.jobs if job.done is not None)
    assert all(service.run(job) for job in service.jobs)
    postgres_server.kill()
    assert not any(service.run(job) for job in service.jobs)
    postgres_server.start()
    assert all(service.run(job) for job in service.jobs)
    assert exclusive.name == "quality"
    assert postgres_server.password not in caplog.text
    database.close()


def _user(connection: Any, name: str) -> int:
    user = connection.execute(insert(users).values(name=name, created_at=NOW).returning(users.c.id)).scalar_one()
    row = {"prefix": name, "hash": "", "name": "phone", "scopes": '["health.ingest"]', "created_at": NOW}
    connection.execute(insert(keys).values(id=name, user_id=user, **row))
    return int(user)


@pytest.mark.parametrize("kind", ["embedded", pytest.param("postgres", marks=pytest.mark.server)])
def test_the_gauges_show_what_the_tables_hold(kind: str, request: pytest.FixtureRequest) -> None:
    database: Database = request.getfixturevalue(kind)
    database.call(lambda connection: refresh(connection, NOW, len(users_holding(connection))))
    assert (value("users"), value("active_users_24h"), value("last_ingest_timestamp_seconds")) == (0, 0, 0)

    def fill(connection: Any) -> None:
        active, idle = _user(connection, "active"), _user(connection, "idle")
        row = {"attempt": 1, "form": "export", "bytes": 1, "sha256": "", "raw": ""}
        for user, age, state in (
            (active, HOUR, "processed"),
            (active, 2 * HOUR, "accepted"),
            (active, 3 * HOUR, "processing"),
            (idle, 25 * HOUR, "failed"),
        ):
            at = NOW - age
            id = str(UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62))
            connection.execute(insert(ingests).values(id=id, user_id=user, received_at=at, state=state, **row))
            kept = {
                "user_id": user,
                "ingest_id": id,
                "attempt": 1,
                "type": "a",
                "path": "",
                "reason": "",
                "payload": "",
            }
            resolved = NOW if state == "failed" else None
            connection.execute(insert(quarantine).values(**kept, created_at=at, resolved_at=resolved))

    database.call(fill)
    database.call(lambda connection: refresh(connection, NOW, len(users_holding(connection))))
    assert (value("users"), value("active_users_24h")) == (2, 1)
    assert value("last_ingest_timestamp_seconds") == (NOW - HOUR).timestamp()
    assert (value("unfinished_ingests"), value("unfinished_ingest_age_seconds")) == (2, 3 * 3600)
    assert value("quarantine_open_points") == 3
