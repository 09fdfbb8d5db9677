"""The API of the platform over each database, and the streams that it shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from penstock.application import Installation
from penstock.clock import Clock
from penstock.platform.access import keys, schema, sessions
from penstock.platform.access.gate import Gate
from penstock.platform.access.options import AccessOptions
from penstock.platform.access.scopes import Scope, Scopes
from penstock.platform.api.app import build
from penstock.platform.api.service import PlatformService
from penstock.platform.database import Database
from penstock.platform.streams import states
from penstock.platform.web.events import LiveState
from penstock.testing.contexts import lend_context

T = TypeVar("T")

ADDRESS = "127.0.0.1:8080"
OWN = {"x-penstock": "1", "sec-fetch-site": "same-origin"}
"""What a page of ours sends."""

DECLARED = [
    Scope("toys.send", "Send toys.", is_default=True, aliases=("send",)),
    Scope("toys.read", "Read toys."),
    Scope("toys.admin", "Look after toys."),
    Scope("other.read", "Read others."),
]


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Api:
    """The API, and a key of an operator."""

    def __init__(self, service: PlatformService, streams: list[Any]) -> None:
        self.service, self.streams = service, streams
        self.database, self.gate = service.database, service.gate
        self.app: Any = build(service)
        self.key = ""

    async def run(self, action: Callable[[Any], T]) -> T:
        """Do something in a transaction."""
        return await self.database.run(action, changes=True)

    async def make(self, name: str, *, scopes: list[str], user: str = "me") -> str:
        """Make a key and return it."""
        return await self.run(lambda c: keys.create(c, name=name, user=user, scopes=scopes).secret)

    async def link(self, **given: Any) -> str:
        """Make a link and return its token."""
        asked = {"user": "me", "scopes": ["operator"], **given}
        return await self.run(lambda c: sessions.create_link(c, **asked))

    @asynccontextmanager
    async def browser(self, origin: str = f"http://{ADDRESS}") -> AsyncIterator[httpx.AsyncClient]:
        """A client that keeps cookies."""
        transport = httpx.ASGITransport(self.app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url=origin) as client:
            yield client

    async def __call__(self, method: str, path: str, *, key: str | None = None, **given: Any) -> httpx.Response:
        async with self.browser() as client:
            headers = {"authorization": f"Bearer {key or self.key}"} | given.pop("headers", {})
            return await client.request(method, f"/api/platform/v1{path}", headers=headers, **given)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    local = request.param == "sqlite"
    made = Database.of(f"sqlite:///{tmp_path}/access.db" if local else request.getfixturevalue("postgres_database"))
    made.call(schema.metadata.create_all)
    yield made
    made.close()


@pytest.fixture
async def api(database: Database, tmp_path: Path) -> AsyncIterator[Api]:
    streams: list[Any] = []
    async with AsyncExitStack() as stack:
        gate = await stack.enter_async_context(Gate(AccessOptions(), Scopes(DECLARED), database).open())
        installation = Installation(data=tmp_path, address=ADDRESS)
        lifetime = sessions.Lifetime()
        stop = asyncio.Event()
        context = await stack.enter_async_context(lend_context(tmp_path))
        live = LiveState("stream", lambda: states(streams), stop)
        service = PlatformService(installation, gate, database, lambda: streams, lifetime, Clock(), live, context)
        made = Api(service, streams)
        made.key = await made.make("operator", scopes=["operator"])
        yield made
        await service.close()
