"""The console as an application: the page at `/`, its files, and what it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from ...application import Application, Installation, Job, Page, Routes
from ...errors import PenstockError
from ...platform.access.schema import OWNER
from ...platform.access.scopes import OPERATOR
from ...platform.application import Platform
from ...platform.ownership import space_of
from ...platform.pages import StaticPages
from ...platform.web.deferred import Deferred
from ...serving.asgi import Asgi, Receive, Scope, Send
from .tiles import Tiles

if TYPE_CHECKING:
    from ...platform.access.gate import Gate
    from ...platform.tables.browsing import Tables
    from .history import History

INTERVAL = 20.0
"""Seconds from one count of what arrives to the next."""
API = "/api/console"
"""The path below which its API is."""
FILES = "/console"
"""The path below which its files are, for the modules of other applications too."""


class Console(Application, type="console"):
    """Show everything that runs here on one page: streams, tables, and the pages of all applications.

    The page is at `/`. People sign in with the link that `penstock up` and `penstock sign-in` print, or with a key.
    Applications list their pages in its navigation, and show them inside of it where they like.

    Example::

        type: console
    """

    extra: ClassVar[str] = "health"

    tiles: str | None = None
    """Where maps get tiles from: `https://tiles.example.org/{z}/{x}/{y}.png`. By default `PENSTOCK_TILES`; without
    either, maps have plain land and coast, and nothing is fetched from elsewhere."""
    tiles_credit: str = ""
    """What is said below maps of those who made the tiles; by default `PENSTOCK_TILES_CREDIT`."""

    def needs(self, installation: Installation) -> Sequence[str]:
        """Return the application that keeps users and keys."""
        return ["access"]

    def paths(self, installation: Installation) -> Sequence[str]:
        """Return the paths of the page, of its files and of its API."""
        return ["/", FILES, f"{FILES}/*", f"{API}/*"]

    def pages(self) -> Sequence[Page]:
        """Return the views that the console brings along."""
        views = f"{FILES}/views"
        return [
            Page("/", "Overview", f"{views}/overview.js", icon="home"),
            Page(
                "/streams",
                "Streams",
                f"{views}/streams.js",
                group="Engine",
                scope=OPERATOR.name,
                icon="stream",
                search=f"{API}/search/streams",
            ),
            Page(
                "/dead-letters",
                "Dead letters",
                f"{views}/deadletters.js",
                group="Engine",
                scope=OPERATOR.name,
                icon="letter",
            ),
            Page(
                "/tables",
                "Tables",
                f"{views}/tables.js",
                group="Data",
                icon="table",
                search=f"{API}/search/tables",
            ),
            Page("/sql", "SQL", f"{views}/sql.js", group="Data", icon="page"),
            Page(
                "/access",
                "Keys and audit",
                f"{views}/access.js",
                group="Installation",
                icon="key",
                search=f"{API}/search/settings",
            ),
            Page("/lineage", "Lineage", f"{views}/lineage.js", group="Engine", scope=OPERATOR.name, icon="lineage"),
        ]

    def spaces(self, installation: Installation) -> Sequence[str]:
        """Return the file or the schema of its tables."""
        return [space_of(installation, self.type_name)]

    def greeting(self, installation: Installation) -> Mapping[str, str]:
        """Return where the page is, and how a person signs in."""
        return {"look": f"http://{installation.address}/, by the link of: {installation.sign_in}"}

    def jobs(self, platform: Platform) -> Sequence[Job]:
        """Return the counting of what arrives, by each process, and the measuring of the room that it takes."""

        async def count(platform: Platform) -> None:
            now = datetime.fromtimestamp(platform.clock.time(), UTC)
            await _history(platform).count(platform.context.streams(), now)

        async def measure(platform: Platform) -> None:
            await _history(platform).measure(datetime.fromtimestamp(platform.clock.time(), UTC))

        return [Job("count", INTERVAL, count, once_per_cluster=False), Job("measure", 86_400.0, measure)]

    @asynccontextmanager
    async def open(self, platform: Platform) -> AsyncIterator[Routes]:
        """Yield the page, its files and its API."""
        from ...platform.access.gate import Gate  # Commands need none of this.
        from ...platform.access.options import AccessOptions
        from ...platform.access.scopes import Scopes
        from ...platform.tables.browsing import Tables

        installation = platform.installation
        options = AccessOptions.of(installation.environment)
        scopes = Scopes(installation.scopes)
        tiles = Tiles.of(self.tiles, self.tiles_credit, installation.environment)
        files = await asyncio.to_thread(StaticPages, f"{__package__}.page", FILES, tiles.policy)
        history = _history(platform)
        await history.open()
        tables = Tables(installation, scopes, lambda: [one.stream for one in platform.context.streams()])
        async with Gate(options, scopes, platform.tables_of(OWNER), clock=platform.clock).open() as gate:
            api = Deferred(partial(_build, platform, gate, history, tables, tiles))
            try:
                yield {"/": _index(files), FILES: files, f"{FILES}/*": files, f"{API}/*": api}
            finally:
                tables.close()
                with suppress(PenstockError):  # the last moments are not worth waiting for a database that is away
                    await history.count(platform.context.streams(), datetime.fromtimestamp(platform.clock.time(), UTC))


def _index(files: StaticPages) -> Asgi:
    """Answer at `/` with the page, whose files are below ``FILES``."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await files({**scope, "path": FILES, "root_path": FILES}, receive, send)

    return serve


def _history(platform: Platform) -> History:
    """Return the one history of this process, which the jobs write and the API reads."""
    from .history import History  # Its packages are needed only by what runs.

    return platform.context.shared.get(
        "console history", lambda: History(platform.database, platform.installation.data)
    )


def _build(platform: Platform, gate: Gate, history: History, tables: Tables, tiles: Tiles) -> Asgi:
    """Make the API: importing what it needs takes a while."""
    from .api import build

    return cast(Asgi, build(platform, gate, history, tables, tiles))
