"""Conversations as a value: a stream for each folder of logs, and the service that shows them."""

from __future__ import annotations

import asyncio
import getpass
import re
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from glob import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import Field

from ...application import Application, Installation, Job, Migrations, Page, Routes
from ...clients.database import Postgres
from ...config.configuration import loads
from ...duration import Duration
from ...platform import pages
from ...platform.access.schema import OWNER as ACCESS
from ...platform.access.scopes import Scope as AccessScope
from ...platform.application import Platform
from ...platform.migration import migrate
from ...platform.ownership import database_of, rows_database, space_of, url_of
from ...platform.web.deferred import Deferred
from ...serving.asgi import Asgi
from ...stream import Pipeline, Stream
from .prices import Prices
from .redaction import Redact, Redaction
from .schema import OWNER, SCRIPTS, VERSION_TABLE
from .scopes import READ
from .transcripts.adapter import adapters

if TYPE_CHECKING:
    from ...platform.access.gate import Gate

PAGE = ("/conversations", "/conversations/*")
POLICY = pages.POLICY.replace("img-src 'self'", "img-src 'self' data:")
"""Images that were pasted into a conversation stand in its lines."""
PATHS = ("/api/projects", "/api/sessions", "/api/conversations", "/api/conversations/*", "/api/stats")
"""Where the API is found."""


class Conversations(Application, type="conversations"):
    """Keep what coding agents write down of their conversations, for good, and search and count it.

    Agents write a file of JSON Lines for each session below `~/.claude/projects`, and delete it after a month. What
    Codex CLI and Gemini CLI write is read as well, and packages may add others. Each line is stored as it is, within
    a second, in a file of its own beside that of the rows, or in the schema `conversations` of PostgreSQL. `penstock
    conversations search` finds words in all of it, and `penstock conversations usage` adds up tokens and costs. Other
    text in a log becomes a dead letter, with its file and its place.

    Example::

        type: conversations
        roots: [~/.claude/projects, /mnt/laptop/.claude/projects]
    """

    extra: ClassVar[str] = "health"

    roots: list[Path] | None = None
    """The folders of logs, in each of which a folder is a project. By default `CLAUDE_DIR`, else `projects` in each
    folder of `CLAUDE_CONFIG_DIR`, else `~/.claude/projects` and what is there of `~/.config/claude/projects`,
    `~/.codex` and `~/.gemini`."""
    host: str = Field(default_factory=socket.gethostname)
    """The machine on which they were written; this one by default."""
    owner: str = Field(default_factory=getpass.getuser)
    """The person whose agents wrote them; who runs this by default."""
    poll_interval: Duration = Field(default=0.25, gt=0)
    """How often the logs are looked at."""
    redact: list[str] | None = None
    """Take secrets out of lines before they are stored: keys and tokens that are known by their form, and what these
    regular expressions find. An empty list takes out the former alone. By default lines are stored as they are, and
    secrets are taken out of downloads."""
    analytics: bool = False
    """Bring the lake, the warehouse and its models up to date each hour, and build them anew each day."""
    prices: Path | None = None
    """A JSON file of prices that take the place of those that ship, or add to them; see the reference page."""

    def needs(self, installation: Installation) -> Sequence[str]:
        """Return the application that keeps users and keys."""
        return ["access"]

    def scopes(self) -> Sequence[AccessScope]:
        """Return what a key may be good for here."""
        return [READ]

    def streams(self, installation: Installation) -> Sequence[Stream]:
        """Return a stream for each folder of logs; raises ConfigError."""
        return [stream for root in self.roots_of(installation) for stream in self.read(root, installation)]

    def read(self, root: Path, installation: Installation, *, follow: bool = True) -> Sequence[Stream]:
        """Return the stream of one folder of logs; raises ConfigError."""
        root = root.absolute()
        pattern = str(root) if root.is_file() else f"{escape(str(root))}/**/*.jsonl"
        variables = {
            "ID": f"conversations-{re.sub('[^A-Za-z0-9]+', '-', str(root)).strip('-')}",
            "ROOT": str(root.parent if root.is_file() else root),
            "PATTERN": pattern,
            "FOLLOW": "true" if follow else "false",
            "POLL_INTERVAL": f"{self.poll_interval}s",
            "DATABASE": url_of(installation, OWNER),
            "SCHEMA": OWNER if isinstance(rows_database(installation), Postgres) else "",
            "HOST": self.host,
            "OWNER": self.owner,
        }
        streams = loads(files(__package__).joinpath("streams.yaml").read_text(), environment=variables).streams
        if self.redact is None:
            return streams
        redact = Redact(patterns=self.redact)
        return [stream.model_copy(update={"pipeline": Pipeline(processors=[redact])}) for stream in streams]

    def roots_of(self, installation: Installation) -> list[Path]:
        """Return the folders of logs."""
        if self.roots is not None:
            return [root.expanduser() for root in self.roots]
        environment = installation.environment
        if named := environment.get("CLAUDE_DIR"):
            return [Path(named).expanduser()]
        if homes := environment.get("CLAUDE_CONFIG_DIR"):
            return [Path(home.strip()).expanduser() / "projects" for home in homes.split(",") if home.strip()]
        usual = Path("~/.claude/projects").expanduser()
        other = Path("~/.config/claude/projects").expanduser()
        agents = [root for adapter in adapters() for root in adapter.roots(environment)]
        return [usual, *(root for root in (other, *agents) if root.is_dir())]

    def paths(self, installation: Installation) -> Sequence[str]:
        """Return the paths of the API and of the page."""
        return [*PATHS, *PAGE]

    def pages(self) -> Sequence[Page]:
        """Return the page."""
        module = "/conversations/dashboards.js"
        return [
            Page("/conversations", "Conversations", group="Applications", scope=READ.name, icon="chat"),
            Page("/dashboards", "Dashboards", module=module, group="Applications", scope=READ.name, icon="table"),
        ]

    def spaces(self, installation: Installation) -> Sequence[str]:
        """Return the file or the schema of its tables."""
        return [space_of(installation, OWNER)]

    def migrations(self) -> Migrations:
        """Return the steps that make its tables."""
        return Migrations(SCRIPTS, VERSION_TABLE)

    def prepare(self, installation: Installation) -> None:
        """Make the tables, or bring them up to date; raises PenstockError."""
        database = database_of(installation, OWNER)
        try:
            migrate(database, SCRIPTS, VERSION_TABLE)
        finally:
            database.close()

    def jobs(self, platform: Platform) -> Sequence[Job]:
        """Return what brings analytics up to date, if that is wanted."""
        from .analytics.job import jobs

        return jobs(self.prices) if self.analytics else []

    def greeting(self, installation: Installation) -> Mapping[str, str]:
        """Return where conversations are read."""
        page = f"http://{installation.address}/conversations"
        return {"conversations": f"{page}, by the link of: {installation.sign_in}"}

    def commands(self) -> Any:
        """Return the commands below `penstock conversations`."""
        from .commands import app

        return app

    @asynccontextmanager
    async def open(self, platform: Platform) -> AsyncIterator[Routes]:
        """Yield the API and the page."""
        from ...platform.access.gate import Gate  # Commands need none of this.
        from ...platform.access.options import AccessOptions
        from ...platform.access.scopes import Scopes

        options = AccessOptions.of(platform.installation.environment)
        async with Gate(options, Scopes([READ]), platform.tables_of(ACCESS), clock=platform.clock).open() as gate:
            prices = await asyncio.to_thread(Prices.load, self.prices)
            build = partial(_build, platform, prices, Redaction(self.redact or ()), gate)
            package = "penstock.apps.conversations.page"
            page = await asyncio.to_thread(pages.StaticPages, package, "/conversations", POLICY)
            async with self._health(platform):
                yield dict.fromkeys(PATHS, Deferred(build)) | dict.fromkeys(PAGE, page)

    @asynccontextmanager
    async def _health(self, platform: Platform) -> AsyncIterator[None]:
        """Serve the health of following logs at the port of `HEALTH_PORT`, on this machine alone."""
        from .health import PATHS, Health, port_of

        port = port_of(platform.installation.environment)
        health = Health(platform.database, platform.context.streams)
        async with AsyncExitStack() as stack:
            for path in PATHS if port else ():
                await stack.enter_async_context(platform.context.listeners.mount(f"127.0.0.1:{port}", path, health))
            yield


def _build(platform: Platform, prices: Prices, redaction: Redaction, gate: Gate) -> Asgi:
    """Make the API: importing what it needs takes a while."""
    from ...platform.web.events import LiveState
    from .analytics.settings import read_settings
    from .api.app import build
    from .api.live import LOOK_INTERVAL, Watch
    from .api.service import Service

    database = platform.database
    live = LiveState("session", Watch(database).look, platform.stop, platform.clock, LOOK_INTERVAL)
    settings = read_settings(platform.installation.data, platform.installation.environment)
    service = Service(database, prices, redaction, settings, live)
    return cast(Asgi, build(service, gate, platform.installation.address))
