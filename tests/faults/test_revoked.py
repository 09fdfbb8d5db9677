"""Credentials are revoked while rows are written: no row is refused for it or lost, and it is told without secrets."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import datafusion  # noqa: F401 an import may block no event loop
import psycopg
import pymongo
import pytest

from penstock import Engine
from penstock.outputs import memory
from penstock.testing.faults import FaultProxy
from penstock.testing.servers import (
    ClickhouseServer,
    InfluxdbServer,
    MariadbServer,
    MongodbServer,
    MosquittoServer,
    NatsServer,
    PostgresServer,
    RedisServer,
)

from .brokers import Nats
from .connectors import FAST, OUTPUTS, Place
from .streams import ERRORS, stream, until

pytestmark = [pytest.mark.server, pytest.mark.slow]
ROWS = {"type": "generate", "context": '{"n": 1}', "interval": "10ms", "batch_size": 1, "codec": "json"}


class Access:
    """A server with a user of the test's own, whose password can be made another or be right again."""

    user = "penstock"
    fixture: str

    def __init__(self, server: Any) -> None:
        self.server, self.password = server, getattr(server, "password", "")

    def prepare(self) -> None:
        """Make the user."""

    def change(self, password: str) -> None:
        """Let the user in with this password only."""
        raise NotImplementedError


class ByRedis(Access):
    user, fixture = "writer", "shared_redis_server"
    make = RedisServer

    def prepare(self) -> None:
        self.server.command("ACL", "SETUSER", self.user, "on", f">{self.password}", "~*", "&*", "+@all")

    def change(self, password: str) -> None:
        """Take away what the user may do, too: the connection that is open goes on, and each command is refused."""
        is_right = password == self.password
        self.server.command("ACL", "SETUSER", self.user, "resetpass", f">{password}", "+@all" if is_right else "-xadd")


class ByNats(Access):
    fixture = "nats_server"
    make = NatsServer

    def prepare(self) -> None:
        asyncio.run(Nats(self.server).prepare())

    def change(self, password: str) -> None:
        self.server.settings["authorization"] = {"user": self.user, "password": password}
        self.server.restart()


class ByMqtt(Access):
    fixture = "mosquitto_server"
    make = MosquittoServer

    def change(self, password: str) -> None:
        self.server.set_password(password)
        self.server.restart()


class ByPostgres(Access):
    user, fixture = "writer", "shared_postgres_server"
    make = PostgresServer

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def prepare(self) -> None:
        self._run(f"CREATE ROLE writer SUPERUSER LOGIN PASSWORD '{self.password}'")

    def change(self, password: str) -> None:
        self._run(f"ALTER ROLE writer PASSWORD '{password}'")
        self._run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'writer'")


class ByMysql(Access):
    user, fixture = "writer", "shared_mariadb_server"
    make = MariadbServer

    def prepare(self) -> None:
        self.server.execute(f"CREATE USER writer@'127.0.0.1' IDENTIFIED BY '{self.password}'")
        self.server.execute("GRANT ALL ON *.* TO writer@'127.0.0.1'")

    def change(self, password: str) -> None:
        self.server.execute(f"ALTER USER writer@'127.0.0.1' IDENTIFIED BY '{password}'")
        self.server.execute("KILL USER writer")


class ByInfluxdb(Access):
    user, fixture = "writer", "shared_influxdb_server"
    make = InfluxdbServer

    def prepare(self) -> None:
        self.server.query(f"CREATE USER writer WITH PASSWORD '{self.password}' WITH ALL PRIVILEGES")

    def change(self, password: str) -> None:
        self.server.query(f"SET PASSWORD FOR writer = '{password}'")


class ByMongodb(Access):
    user, fixture = "writer", "shared_mongodb_server"
    make = MongodbServer

    def _command(self, name: str, password: str, **more: Any) -> None:
        with pymongo.MongoClient[dict[str, Any]](self.server.url) as client:
            client.admin.command(name, self.user, pwd=password, **more)

    def prepare(self) -> None:
        self._command("createUser", self.password, roles=[])

    def change(self, password: str) -> None:
        self._command("updateUser", password)


class ByClickhouse(Access):
    fixture = "clickhouse_server"
    make = ClickhouseServer

    def change(self, password: str) -> None:
        self.server.set_password(password)


ACCESSES: dict[str, type[Access]] = {
    "redis-output": ByRedis,
    "nats-output": ByNats,
    "mqtt-output": ByMqtt,
    "postgres-output": ByPostgres,
    "mysql-output": ByMysql,
    "influxdb-1": ByInfluxdb,
    "mongodb": ByMongodb,
    "clickhouse": ByClickhouse,
}


@pytest.mark.parametrize("name", ACCESSES)
async def test_no_row_is_refused_while_credentials_are_revoked(
    name: str, tmp_path: Path, fault_proxy: Callable[..., FaultProxy], request: pytest.FixtureRequest
) -> None:
    access = ACCESSES[name](request.getfixturevalue(ACCESSES[name].fixture))
    await asyncio.to_thread(access.prepare)
    memory.clear("errors")
    async with fault_proxy(access.server.port) as proxy:
        output = OUTPUTS[name](Place(proxy.port, access.user, access.password))
        made = stream(input=ROWS, output=output, error_output=ERRORS, retry=FAST, shutdown_timeout="5s")
        engine, stop = Engine([made], data=tmp_path / "data"), asyncio.Event()
        running = asyncio.ensure_future(engine.run(stop))

        def written() -> int:
            return engine.supervised[0].metrics.rows_out

        def trouble() -> str | None:
            return engine.supervised[0].status().trouble

        async def until_true(condition: Callable[[], Any]) -> None:
            await until(lambda: running.done() or condition())
            assert not running.done(), running.exception()

        async def change(password: str, then: Callable[[], Awaitable[None]] = proxy.cut) -> None:
            await asyncio.to_thread(access.change, password)
            await then()

        async def nothing() -> None: ...

        try:
            await until_true(lambda: engine.supervised and written() > 3)
            # Redis goes on with a connection that is open.
            await change(secrets.token_hex(8), nothing if name.startswith("redis") else proxy.cut)
            await until_true(trouble)
            assert access.password not in str(trouble())
            assert memory.rows("errors") == []
            await change(access.password)
            before = written()
            await until_true(lambda: written() > before + 3 and trouble() is None)
            assert engine.supervised[0].status().rows_refused == 0
            assert memory.rows("errors") == []
        finally:
            stop.set()
            await running
        status = engine.supervised[0].status()
        assert status.rows_out == status.rows_in
