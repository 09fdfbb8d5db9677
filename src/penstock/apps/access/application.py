"""Access as an application: users, keys and sessions, the stream of the audit, and the API of the platform."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import Field

from ...application import Application, Installation, Page, Routes
from ...config.configuration import loads
from ...duration import Duration
from ...platform.access.legacy import prepare
from ...platform.access.schema import OWNER
from ...platform.application import Platform
from ...platform.ownership import database_of, space_of, url_of
from ...platform.pages import StaticPages
from ...platform.web.deferred import Deferred
from ...serving.asgi import Asgi
from ...stream import Stream

if TYPE_CHECKING:
    from ...platform.api.service import PlatformService


ROOT = "/api/platform/v1"
"""The path below which the API is."""
PAGE = ("/keys", "/keys/*")
"""Where the page of keys is."""


class Access(Application, type="access"):
    """Keep users, keys, sessions and the audit, and serve the API of streams and keys.

    Applications that take keys bring it along. Its tables are in a file of their own beside that of the rows, or in the
    schema `platform` of PostgreSQL. Keys are made by `penstock keys create` or at `/keys`; only hashes of them are
    kept. People sign in with the link that `penstock up` and `penstock sign-in` print, or with a key. The API is below
    `/api/platform/v1`.

    Example::

        type: access
        session_idle: 1h
    """

    extra: ClassVar[str] = "health"

    session_ttl: Duration = Field(7 * 86_400.0, ge=60)
    """How long a session lasts at most."""
    session_idle: Duration = Field(12 * 3600.0, ge=300)
    """How long a session lasts that is not used."""

    def streams(self, installation: Installation) -> Sequence[Stream]:
        """Return the stream of the audit; raises ConfigError."""
        schema = database_of(installation, OWNER).schema or ""  # SQLite has none
        variables = {"DATABASE": url_of(installation, OWNER), "SCHEMA": schema}
        return loads(files(__package__).joinpath("streams.yaml").read_text(), environment=variables).streams

    def paths(self, installation: Installation) -> Sequence[str]:
        """Return the paths of the API and of the page of keys."""
        return [f"{ROOT}/*", *PAGE]

    def pages(self) -> Sequence[Page]:
        """Return the page of keys."""
        return [Page("/keys", "Keys and audit", group="Installation", icon="key", listed=False)]

    def greeting(self, installation: Installation) -> Mapping[str, str]:
        """Return where keys are looked after, and how a person signs in there."""
        return {"keys": f"http://{installation.address}/keys, by the link of: {installation.sign_in}"}

    def spaces(self, installation: Installation) -> Sequence[str]:
        """Return the file or the schema of its tables."""
        return [space_of(installation, OWNER)]

    def prepare(self, installation: Installation) -> None:
        """Make the tables; the first time, take over what an older version had; raises PenstockError."""
        prepare(installation)

    @asynccontextmanager
    async def open(self, platform: Platform) -> AsyncIterator[Routes]:
        """Make the tables, unless that was done before, and yield the API; it needs no server that is away."""
        from ...platform.access.gate import Gate  # Commands need none of this.
        from ...platform.access.options import AccessOptions
        from ...platform.access.scopes import Scopes
        from ...platform.access.sessions import Lifetime
        from ...platform.api.service import PlatformService
        from ...platform.recentlog import RecentLog
        from ...platform.streams import states
        from ...platform.web.events import LiveState

        installation, options = platform.installation, AccessOptions.of(platform.installation.environment)
        async with AsyncExitStack() as stack:
            recent = stack.enter_context(RecentLog().listening())  # before anything else: streams begin meanwhile
            await asyncio.to_thread(prepare, installation)
            database = platform.tables_of(OWNER)
            gate = await stack.enter_async_context(
                Gate(options, Scopes(installation.scopes), database, clock=platform.clock).open()
            )
            service = PlatformService(
                installation,
                gate,
                database,
                platform.context.streams,
                Lifetime(self.session_ttl, self.session_idle),
                platform.clock,
                LiveState("stream", lambda: states(platform.context.streams()), platform.stop, platform.clock),
                platform.context,
                recent,
            )
            page = await asyncio.to_thread(StaticPages, "penstock.platform.keys_page", "/keys")
            try:
                yield {f"{ROOT}/*": Deferred(partial(_build, service)), **dict.fromkeys(PAGE, page)}
            finally:
                await service.close()


def _build(service: PlatformService) -> Asgi:
    """Make the API: importing what it needs takes a while."""
    from ...platform.api.app import build

    return cast(Asgi, build(service))
