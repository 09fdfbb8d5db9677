"""The server of changes is cut off, swallowed, killed, frozen, closed to us: no row is lost, and a stop is obeyed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest

from penstock import Engine
from penstock.outputs import memory
from penstock.testing.faults import FaultProxy
from penstock.testing.pytest_plugin import _serve
from penstock.testing.servers import PostgresServer
from penstock.testing.waiting import until

from .streams import stream
from .test_brokers import FAST, cut, freeze, refuse, slow, swallow

pytestmark = [pytest.mark.server, pytest.mark.slow]


class Source:
    """The server as the faults see it."""

    def __init__(self, server: PostgresServer) -> None:
        self.server, self.port, self.count = server, server.port, 0
        self.run("CREATE TABLE rows (n int PRIMARY KEY)", "ALTER TABLE rows OWNER TO penstock")

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def add(self, count: int) -> None:
        self.run(f"INSERT INTO rows SELECT generate_series({self.count}, {self.count + count - 1})")
        self.count += count

    def input(self, port: int, credentials: str | None = None) -> dict[str, Any]:
        who = credentials or f"penstock:{self.server.password}"
        url = f"postgresql://{who}@127.0.0.1:{port}/postgres?connect_timeout=2"
        return {"type": "postgres_cdc", "url": url, "tables": ["rows"], "batch_size": 50, "timeout": "2s"}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    yield from _serve(lambda: PostgresServer(fsync=False, wal_level="logical"))


@pytest.fixture
def source(server: PostgresServer) -> Iterator[Source]:
    yield Source(server)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DROP PUBLICATION IF EXISTS penstock")
        connection.execute("DROP TABLE rows")
        for _ in range(200):
            connection.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
            try:
                connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
                break
            except psycopg.errors.ObjectInUse:
                connection.execute("SELECT pg_sleep(0.02)")


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[Engine]:
    memory.clear("out")
    stop = asyncio.Event()
    engine = Engine([stream(retry=FAST, shutdown_timeout="3s", **options)], data=folder / "data")
    task = asyncio.ensure_future(engine.run(stop))
    try:
        yield engine
    finally:
        stop.set()
        began = monotonic()
        await asyncio.wait({task}, timeout=60)
        assert task.done()
        assert monotonic() - began < 30
    task.result()


def arrived() -> list[int]:
    return [row["n"] for row in memory.rows("out")]


async def kill(proxy: FaultProxy, source: Any) -> None:
    source.server.kill()
    source.server.start()  # in this thread, with which it would end


async def restart(proxy: FaultProxy, source: Any) -> None:
    """Stop it in good order, for which it waits until its readers have confirmed what it sent."""
    await asyncio.to_thread(source.server.stop)
    source.server.start()


@pytest.mark.parametrize("fault", [cut, swallow, refuse, slow, kill, restart, freeze], ids=lambda fault: fault.__name__)
async def test_each_row_comes_once(
    source: Source, fault: Any, tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    source.add(300)
    async with fault_proxy(source.port) as proxy:
        async with running(tmp_path, input=source.input(proxy.port)):
            await until(lambda: len(arrived()) == 300)
            await asyncio.to_thread(source.add, 400)
            await fault(proxy, source)
            await asyncio.to_thread(source.add, 100)
            await until(lambda: len(arrived()) >= source.count)
        assert sorted(arrived()) == list(range(source.count))


async def test_a_stop_is_obeyed_while_nothing_passes(
    source: Source, tmp_path: Path, fault_proxy: Callable[..., FaultProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the look at the slot hold it up, which is under way at any moment here."""
    monkeypatch.setattr("penstock.inputs.postgres_cdc.reader.STATE_INTERVAL", 0.01)
    source.add(100)
    async with fault_proxy(source.port) as proxy:
        async with running(tmp_path, input=source.input(proxy.port)):
            await until(lambda: len(arrived()) == 100)
            proxy.passing.clear()
        proxy.passing.set()


async def test_a_password_that_was_changed_is_told_and_waited_for(source: Source, tmp_path: Path) -> None:
    source.run(
        "DROP ROLE IF EXISTS reader",
        "CREATE ROLE reader LOGIN REPLICATION PASSWORD 'first'",
        "GRANT SELECT ON rows TO reader",
        "CREATE PUBLICATION penstock FOR TABLE rows",
    )
    source.add(50)
    async with running(tmp_path, input=source.input(source.port, "reader:first")) as engine:
        await until(lambda: len(arrived()) == 50)
        source.run(
            "ALTER ROLE reader PASSWORD 'second'",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'",
        )
        await until(lambda: "authentication failed" in str(engine.supervised[0].status().trouble))
        source.add(50)
        source.run("ALTER ROLE reader PASSWORD 'first'")
        await until(lambda: len(arrived()) == 100)
    source.run("REVOKE ALL ON rows FROM reader", "DROP ROLE reader")
    assert sorted(arrived()) == list(range(100))
