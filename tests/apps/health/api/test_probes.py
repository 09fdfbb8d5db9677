import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.datastructures import State

from penstock.apps.health.api import probes
from penstock.apps.health.schema import ingests, metadata
from penstock.apps.health.service import Health
from penstock.apps.health.settings import Settings
from penstock.inputs.feed import Feed
from penstock.platform.database import Database
from penstock.platform.web.errors import HANDLERS
from penstock.testing.contexts import lend_context
from penstock.testing.servers import PostgresServer, RedisServer
from penstock.testing.waiting import until


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A SQLite with the table that is looked at."""
    database = Database.of(f"sqlite:///{tmp_path}/a.db")
    database.call(lambda connection: metadata.create_all(connection, [ingests]))
    yield database
    database.close()


@asynccontextmanager
async def served(
    database: Database, redis: str | None = None, *, open: bool = True
) -> AsyncIterator[httpx.AsyncClient]:
    """The routes, with or without a stream behind the feed."""
    settings = Settings.model_validate({"redis_url": redis})
    health = Health(settings=settings, database=database, access=database, raw=None, gate=None, outcomes=None)  # type: ignore[arg-type]
    handlers: Any = HANDLERS
    app = Litestar(
        probes.ROUTES,
        state=State({"health": health}),
        exception_handlers=handlers,
        logging_config=None,
        openapi_config=None,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://health") as client:  # type: ignore[arg-type]
        if not open:
            yield client
            return
        async with lend_context(Path("unused")) as context, Feed(name="health").open(context):
            yield client


async def test_all_is_well(database: Database) -> None:
    async with served(database) as client:
        for path in ("/health/ready", "/ready"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "no-store"
            assert answer.json() == {
                "status": "ready",
                "components": {"database": "up", "feed": "up", "redis": "off"},
            }
        assert (await client.get("/health/live")).json() == {"status": "alive"}


async def test_the_status_is_in_headers_too(database: Database) -> None:
    async with served(database) as client:
        answer = await client.get("/api/v1/status")
        assert answer.status_code == 200
        assert answer.headers["x-api-status"] == "operational"
        assert answer.headers["x-db-status"] == "connected"
        assert answer.headers["x-redis-status"] == "disabled"
        assert float(answer.headers["x-response-time-ms"]) >= 0
        assert answer.json()["success"] is True
        assert answer.json()["data"]["status"] == "ready"


async def test_without_the_stream_nothing_is_taken_but_the_process_is_alive(database: Database) -> None:
    async with served(database, open=False) as client:
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (503, "not ready")
        assert answer.json()["components"] == {"database": "up", "feed": "down", "redis": "off"}
        assert (await client.get("/health/live")).status_code == 200
        status = await client.get("/api/v1/status")
        assert (status.status_code, status.headers["x-api-status"]) == (503, "unavailable")
        assert (status.json()["success"], status.json()["error"]) == (False, "unavailable")


async def test_the_stream_is_noticed_at_once_when_it_opens(database: Database) -> None:
    async with served(database, open=False) as client:
        assert (await client.get("/ready")).status_code == 503
        async with lend_context(Path("unused")) as context, Feed(name="health").open(context):
            assert (await client.get("/ready")).status_code == 200
        assert (await client.get("/ready")).status_code == 503


def test_a_database_without_its_tables_is_not_ready(tmp_path: Path) -> None:
    database = Database.of(f"sqlite:///{tmp_path}/empty.db")

    async def ask() -> httpx.Response:
        async with served(database) as client:
            return await client.get("/health/ready")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["components"]["database"]) == (503, "down")
    database.close()


@pytest.mark.server
def test_a_database_that_goes_away_and_comes_back(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probes, "PROBE_TTL", 0.0)
    database = Database.of(postgres_server.url)
    database.call(lambda connection: metadata.create_all(connection, [ingests]))
    seen = []

    async def ask() -> None:
        async with served(database) as client:
            for action in (None, postgres_server.kill, postgres_server.start):
                if action is not None:
                    await asyncio.to_thread(action)
                answer = await client.get("/api/v1/status")
                seen.append((answer.status_code, answer.headers["x-db-status"]))

    asyncio.run(ask())
    assert seen == [(200, "connected"), (503, "disconnected"), (200, "connected")]
    assert postgres_server.password not in caplog.text
    database.close()


@pytest.mark.server
def test_without_redis_the_service_is_degraded_but_ready(
    redis_server: RedisServer, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probes, "PROBE_TTL", 0.0)
    monkeypatch.setattr(probes, "PROBE_TIMEOUT", 1.5)
    caplog.set_level(logging.DEBUG, "penstock")
    well, ill = (200, "operational", "connected"), (200, "degraded", "disconnected")
    actions = (None, redis_server.pause, redis_server.resume, redis_server.kill, redis_server.start)

    async def ask() -> None:
        async with served(database, redis_server.url) as client:
            for action, expected in zip(actions, (well, ill, well, ill, well), strict=True):
                if action is not None:
                    await asyncio.to_thread(action)
                for _ in range(10):  # on a busy machine the first answers may come too late
                    answer = await client.get("/api/v1/status")
                    seen = (answer.status_code, answer.headers["x-api-status"], answer.headers["x-redis-status"])
                    if seen == expected:
                        break
                assert seen == expected

    asyncio.run(ask())
    assert redis_server.password not in caplog.text


async def test_many_probes_at_once_ask_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def slow(connection: object) -> None:
        nonlocal asked
        asked += 1
        time.sleep(0.1)

    monkeypatch.setattr(probes, "_read", slow)
    async with served(database) as client:
        answers = await asyncio.gather(*(client.get("/health/ready") for _ in range(20)))
        answers.append(await client.get("/api/v1/status"))
    assert {answer.status_code for answer in answers} == {200}
    assert asked == 1


async def test_a_database_that_hangs_is_down_after_a_while(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(probes, "PROBE_TIMEOUT", 0.2)
    monkeypatch.setattr(probes, "_read", lambda _: goes_on.wait())
    async with served(database) as client:
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["components"]["database"]) == (503, "down")
        assert (await client.get("/health/live")).status_code == 200
        goes_on.set()

        async def is_ready() -> bool:
            return (await client.get("/health/ready")).status_code == 200

        await until(is_ready)


def test_all_are_public() -> None:
    assert all(handler.opt == {"public": True} for handler in probes.ROUTES)
    paths = {path for handler in probes.ROUTES for path in handler.paths}
    assert paths == {"/health/live", "/health/ready", "/ready", "/api/v1/status"}
