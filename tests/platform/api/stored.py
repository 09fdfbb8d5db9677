"""An API over tables of each engine."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest
from psycopg import sql as pg

from penstock.application import Installation
from penstock.clock import Clock
from penstock.platform.access import schema, sessions
from penstock.platform.access.gate import Gate
from penstock.platform.access.options import AccessOptions
from penstock.platform.access.scopes import Scope, Scopes
from penstock.platform.api.service import PlatformService
from penstock.platform.ownership import database_of
from penstock.platform.web.events import LiveState
from penstock.testing.contexts import lend_context

from .conftest import ADDRESS, DECLARED, Api

HOSTILE = '<img src=x onerror=alert(1)>"; DROP TABLE x; --%s?'
SCOPES = [
    *DECLARED,
    Scope("inbox.read", "Read rows.", tables="all"),
    Scope("toys.look", "Look at one's own toys.", tables="own"),
]


class Stored:
    """The API over tables of one engine."""

    def __init__(self, api: Api, engine: str, run: Callable[..., None]) -> None:
        self.api, self.engine, self.run = api, engine, run

    async def get(self, path: str, status: int = 200, by: str | None = None, **parameters: Any) -> Any:
        given = {name: json.dumps(one) if isinstance(one, list) else one for name, one in parameters.items()}
        answer = await self.api("GET", path, key=by, params=given)
        assert answer.status_code == status, answer.text[:1000]
        return answer.json()

    async def rows(self, table: str, **parameters: Any) -> Any:
        return await self.get("/tables/rows/rows", table=table, **parameters)


@pytest.fixture(params=["sqlite", "postgres", "duckdb"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def stored(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stored]:
    """An API whose rows are in a database of each engine."""
    url = {
        "sqlite": lambda: "",
        "postgres": lambda: request.getfixturevalue("postgres_database"),
        "duckdb": lambda: f"duckdb:///{tmp_path}/rows.duckdb",
    }[engine]()
    async for made in _serve(engine, url, tmp_path):
        yield made


async def _serve(engine: str, url: str, tmp_path: Path) -> AsyncIterator[Stored]:
    installation = Installation(data=tmp_path, address=ADDRESS, database=url)
    database = database_of(installation, "platform")
    await database.create(schema.metadata)

    def run(statement: str, values: Any = ()) -> None:
        if engine == "sqlite":
            with sqlite3.connect(tmp_path / "penstock.db") as connection:
                connection.executemany(statement, values) if values else connection.executescript(statement)
        elif engine == "duckdb":
            with duckdb.connect(str(tmp_path / "rows.duckdb")) as connection:
                if not values:
                    connection.execute(statement)
                    return
                columns = {f"c{at}": list(cells) for at, cells in enumerate(zip(*values, strict=True))}
                connection.register("given", pa.table(columns))
                connection.execute(statement.rpartition("VALUES")[0] + "SELECT * FROM given")
        else:
            with psycopg.connect(url) as connection, connection.cursor() as cursor:
                if values:
                    cursor.executemany(pg.SQL(_marked(statement)), values)  # type: ignore[arg-type]
                else:
                    cursor.execute(statement.encode())

    streams: list[Any] = []
    async with AsyncExitStack() as stack:
        gate = await stack.enter_async_context(Gate(AccessOptions(), Scopes(SCOPES), database).open())
        context = await stack.enter_async_context(lend_context(tmp_path))
        live = LiveState("stream", dict, asyncio.Event())
        service = PlatformService(
            installation, gate, database, lambda: streams, sessions.Lifetime(), Clock(), live, context
        )
        api = Api(service, streams)
        api.key = await api.make("operator", scopes=["operator"])
        yield Stored(api, engine, run)
        await service.close()
        await asyncio.to_thread(database.close)


def _marked(statement: str) -> str:
    """Return a statement with the marks of psycopg in place of those of others, but not in names."""
    start, values, end = statement.replace("%", "%%").rpartition("VALUES")
    return start + values + end.replace("?", "%s")
