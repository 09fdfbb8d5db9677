"""A gate before three routes, over each database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, get, post
from litestar.datastructures import State

from penstock.inputs.feed import Feed, feed
from penstock.platform.access import keys, lookup, redis, schema
from penstock.platform.access.audit import FEED
from penstock.platform.access.gate import Gate, GateMiddleware
from penstock.platform.access.options import AccessOptions
from penstock.platform.access.scopes import DEFAULT_LIMIT, MEGABYTE, Limit, Scope, Scopes
from penstock.platform.database import Database
from penstock.platform.web import errors
from penstock.testing.contexts import lend_context

INGEST = Limit(requests=50, bytes=10 * MEGABYTE, allowance_requests=5000, allowance_bytes=5000 * MEGABYTE)


def declared(**limits: Limit) -> Scopes:
    """Scopes of an application, with shorter names."""
    return Scopes(
        [
            Scope("toys.ingest", "", limits.get("ingest", INGEST), is_default=True, aliases=("ingest", "write")),
            Scope("toys.read", "", limits.get("read", DEFAULT_LIMIT), aliases=("read",)),
            Scope("toys.admin", "", aliases=("admin",)),
        ]
    )


def create(connection: Any, *, scopes: Any = ("ingest", "read"), **given: Any) -> keys.Made:
    """Make a key as commands and routes do."""
    limits = declared().limits(given.pop("limits", None))
    return keys.create(connection, **({"name": "phone"} | given), scopes=declared().asked(scopes), limits=limits)


@get("/readings", opt={"scope": "read"})
async def read(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return {"user": request.user.user_name, "address": request.user.address, "key": request.user.key}


@post("/readings", opt={"scope": "ingest"}, status_code=200)
async def send(request: Request[Any, Any, Any]) -> dict[str, int]:
    return {"bytes": len(await request.body())}


@get("/settings", opt={"scope": "admin", "limit": "admin"})
async def administer() -> dict[str, bool]:
    return {"success": True}


@get("/forgotten")
async def forgotten() -> dict[str, bool]:
    return {"success": True}


@get("/any", opt={"scope": "any", "limit": "read"})
async def any_key() -> dict[str, bool]:
    return {"success": True}


@get("/alive", opt={"public": True})
async def alive() -> str:
    return "alive"


class Running:
    """A gate that is open, and a client of the routes behind it."""

    def __init__(self, gate: Gate, database: Database, client: httpx.AsyncClient, app: Litestar) -> None:
        self.gate, self.database, self.client, self.app = gate, database, client, app

    async def make(self, **given: Any) -> keys.Made:
        return await self.database.run(lambda connection: create(connection, **given))

    async def get(self, key: str | None, path: str = "/readings", **headers: str) -> httpx.Response:
        shown = {"authorization": f"Bearer {key}"} if key else {}
        return await self.client.get(path, headers=shown | {n.replace("_", "-"): v for n, v in headers.items()})

    def from_address(self, address: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=(address, 1234))
        return httpx.AsyncClient(transport=transport, base_url="http://penstock")


@pytest.fixture(params=["sqlite", "postgres"])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = (
        f"sqlite:///{tmp_path}/health.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    )
    yield from _made(url)


@pytest.fixture(autouse=True)
def servers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers late on a busy machine is none that hangs."""
    monkeypatch.setattr(redis, "ANSWER_TIMEOUT", 60.0)
    monkeypatch.setattr(lookup, "READ_TIMEOUT", 60.0)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    yield from _made(f"sqlite:///{tmp_path}/health.db")


def _made(url: str) -> Iterator[Database]:
    database = Database.of(url)
    database.call(lambda connection: schema.metadata.create_all(connection))
    yield database
    database.close()


@asynccontextmanager
async def running(database: Database, **settings: Any) -> AsyncIterator[Running]:
    limits = {name: settings.pop(name) for name in ("ingest", "read") if name in settings}
    clock = settings.pop("clock", None)
    gate = Gate(AccessOptions(**settings), declared(**limits), database, clock=clock)
    app = Litestar(
        [read, send, administer, forgotten, any_key, alive],
        middleware=[GateMiddleware],
        exception_handlers=errors.HANDLERS,  # type: ignore[arg-type]
        state=State({"gate": gate, "application": "toys"}),
        logging_config=None,
    )
    transport = httpx.ASGITransport(app)
    async with gate.open(), httpx.AsyncClient(transport=transport, base_url="http://penstock") as client:
        yield Running(gate, database, client, app)


@pytest.fixture
def open_gate() -> Any:
    return running


@pytest.fixture
async def audited(tmp_path: Path) -> AsyncIterator[list[dict[str, Any]]]:
    """What reaches the stream of the audit, which is there while this fixture is used."""
    rows: list[dict[str, Any]] = []
    async with lend_context(tmp_path) as context, Feed(name=FEED).open(context) as reader:

        async def take() -> None:
            while True:
                delivery = await reader.read()
                rows.extend(delivery.batch.to_pylist())
                await delivery.ack()

        taking = asyncio.create_task(take())
        assert feed(FEED).is_open
        yield rows
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
