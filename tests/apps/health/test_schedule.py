import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select

from penstock.application import Installation
from penstock.apps.health.application import Health
from penstock.apps.health.schedule import refresh
from penstock.apps.health.schema import ingests, quarantine
from penstock.apps.health.schema import quality as looks
from penstock.apps.health.store.migrations import migrate
from penstock.observe.metrics import registry
from penstock.platform.access import schema as access
from penstock.platform.access.keys import users_holding
from penstock.platform.access.schema import OWNER, audit, keys, users
from penstock.platform.application import Platform
from penstock.platform.database import Database
from penstock.platform.jobs import Jobs
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


@contextlib.asynccontextmanager
async def lent(folder: Path, database: str = "", **options: Any) -> AsyncIterator[Platform]:
    """A platform on which the tables of health and of access are there."""
    async with lend_context(folder) as context, asyncio.TaskGroup() as tasks:
        health = Health(**options)
        installation = Installation(data=folder, database=database, environment={})
        platform = Platform(health, installation, context, logging.getLogger("test"), asyncio.Event(), tasks)
        await asyncio.to_thread(migrate, platform.database)
        await asyncio.to_thread(_prepare, installation)
        yield platform
        await platform.close()


def _prepare(installation: Installation) -> None:
    from penstock.platform.access.legacy import prepare

    prepare(installation)


async def test_the_usual_jobs_run(tmp_path: Path) -> None:
    async with lent(tmp_path) as platform:
        user = await platform.tables_of(OWNER).run(lambda connection: _user(connection, "me"), changes=True)
        jobs = platform.application.jobs(platform)
        assert [job.name for job in jobs if await Jobs(platform, jobs).do(job)] == ["gauges", "findings", "quality"]
        rows = await platform.database.run(lambda connection: connection.execute(looks.select()).fetchall())
        assert [row.user_id for row in rows] == [user]
        assert value("users") == 1
        assert value("quality_users", finding="silence") == 1
        assert value("job_runs_total", task="quality", result="success") >= 1


async def test_retention_runs_where_months_are_given(tmp_path: Path) -> None:
    async with lent(tmp_path, retention_months=24) as platform:
        jobs = platform.application.jobs(platform)
        assert [job.name for job in jobs] == ["gauges", "findings", "quality", "retention"]
        about = {"action": "ingest_accepted", "outcome": "success"}
        kept = [{"id": str(age), "time": NOW - timedelta(days=age * 30.5), **about} for age in (23, 26)]
        access = platform.tables_of(OWNER)
        await access.run(lambda connection: connection.execute(insert(audit), kept), changes=True)
        assert await Jobs(platform, jobs).do(jobs[-1])
        left = await access.run(lambda connection: connection.scalars(select(audit.c.id)).all())
        assert left == ["23"]


@pytest.mark.server
async def test_a_look_of_another_replica_is_not_repeated(postgis_database: str, tmp_path: Path) -> None:
    async with lent(tmp_path, postgis_database) as platform:
        await platform.tables_of(OWNER).run(lambda connection: _user(connection, "me"), changes=True)
        jobs = platform.application.jobs(platform)
        [quality] = [job for job in jobs if job.name == "quality"]
        for _ in range(2):
            assert await Jobs(platform, jobs).do(quality)
        rows = await platform.database.run(lambda connection: connection.execute(looks.select()).fetchall())
        assert len(rows) == 1


@pytest.mark.server
async def test_jobs_outlive_their_database(
    postgres_server: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with lent(tmp_path, postgres_server.create_database(postgis=True)) as platform:
        jobs = platform.application.jobs(platform)
        assert all([await Jobs(platform, jobs).do(job) for job in jobs])
        failures = value("job_runs_total", task="quality", result="failure")
        await asyncio.to_thread(postgres_server.kill)
        assert not any([await Jobs(platform, jobs).do(job) for job in jobs])
        assert value("job_runs_total", task="quality", result="failure") == failures + 1
        await asyncio.to_thread(postgres_server.start)
        assert all([await Jobs(platform, jobs).do(job) for job in jobs])
    assert postgres_server.password not in caplog.text


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
