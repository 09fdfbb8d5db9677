"""The health service as a value: its streams, and the service that serves its API and its page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, ClassVar, cast

from ...application import Application, Installation, Job, Migrations, Page, Routes
from ...clients.database import Postgres, Sqlite
from ...config.configuration import loads
from ...inputs.feed import feed
from ...observe.http import Answered
from ...platform.access.schema import OWNER
from ...platform.access.scopes import Scope as AccessScope
from ...platform.application import Platform
from ...platform.ownership import database_of, rows_database, space_of, url_of
from ...platform.pages import StaticPages
from ...platform.relocation import is_beside, move_into_file
from ...runtime.logfolder import hold
from ...serving.asgi import Asgi, Receive, Scope, Send
from ...stream import Stream
from . import metrics, service
from .acceptance import Accepted, batch, outcomes_of
from .api.app import build
from .gate import gate_of
from .raw import Raw
from .schedule import jobs_of
from .scopes import declared
from .settings import Settings
from .store.migrations import MOVED, SCHEMA, SCRIPTS, VERSION_TABLE, migrate

PATHS = ("/api/v1/*", "/v1/ingest", "/api/data", "/health/live", "/health/ready", "/ready")
"""Where the API is found."""
_OPENING_TIMEOUT = 600.0
"""How long the stream may take to open, in seconds."""
PAGE = ("/health-data", "/health-data/*")


class Health(Application, Settings, type="health"):
    """Take what the app Health Auto Export sends, keep every point, and show it.

    The app posts to `/api/v1/ingest` with a key. Each point is stored, updated, unchanged, or quarantined with its
    reason. The page is at `/health-data`. Every option may also be given as a variable `PENSTOCK_HEALTH_<OPTION>`. The
    tables are in a file of their own beside that of the rows, or in the schema `health` of PostgreSQL with PostGIS.

    Example::

        type: health
        max_body_bytes: 50000000
    """

    extra: ClassVar[str] = "health"

    def needs(self, installation: Installation) -> Sequence[str]:
        """Return the application that keeps users and keys."""
        return ["access"]

    def scopes(self) -> Sequence[AccessScope]:
        """Return what a key may be good for here."""
        return declared(self)

    def streams(self, installation: Installation) -> Sequence[Stream]:
        """Return the stream of exports; raises ConfigError."""
        settings = self.settings(installation)
        variables = {
            "PENSTOCK_DATA": str(settings.data),
            "PENSTOCK_HEALTH_RAW_URL": settings.raw_url or "",
            "PENSTOCK_HEALTH_MAX_BODY_BYTES": str(settings.max_body_bytes),
            "DATABASE": settings.database_url.get_secret_value(),
            "SCHEMA": SCHEMA if isinstance(rows_database(installation), Postgres) else "",
        }
        return loads(files(__package__).joinpath("streams.yaml").read_text(), environment=variables).streams

    def paths(self, installation: Installation) -> Sequence[str]:
        """Return the paths of the API and of the page: those that today's phones use."""
        return [*PATHS, *PAGE]

    def spaces(self, installation: Installation) -> Sequence[str]:
        """Return the file or the schema of its tables."""
        return [space_of(installation, SCHEMA)]

    def prepare(self, installation: Installation) -> None:
        """Move the tables of older versions to where they belong, and bring them up to date; raises PenstockError."""
        rows = rows_database(installation)
        database = database_of(installation, SCHEMA)
        try:
            if isinstance(database.where, Sqlite) and isinstance(rows, Sqlite) and is_beside(rows.path, VERSION_TABLE):
                with hold(installation.data / "wal" / "health"):  # an older version that still runs would write on
                    move_into_file(rows.path, database.where.path, MOVED, VERSION_TABLE)
            migrate(database)
        finally:
            database.close()

    def pages(self) -> Sequence[Page]:
        """Return the page and the documentation of the API."""
        return [
            Page("/health", "Today", f"{PAGE[0]}/today.js", group="Health", scope=f"{self.type_name}.read", icon="sun"),
            Page(
                "/health-data",
                "All health data",
                group="Health",
                scope=f"{self.type_name}.read",
                icon="heart",
                search="/api/v1/search/metrics",
            ),
            Page("/api/v1/docs", "The health API", listed=False),
        ]

    def greeting(self, installation: Installation) -> Mapping[str, str]:
        """Return where the page is and how a key is made."""
        key = "a key for the phone: {penstock} keys create{data} --name phone --scope health.ingest"
        return {"health": f"http://{installation.address}/health-data; {key}"}

    def settings(self, installation: Installation) -> Settings:
        """Return the options, filled up from the installation; raises ConfigError naming the variable."""
        given = {name: getattr(self, name) for name in self.model_fields_set if name in Settings.model_fields}
        return Settings.of(
            installation.environment,
            **{
                "data": installation.data,
                "address": installation.address,
                "database_url": url_of(installation, SCHEMA),
                **given,
            },
        )

    def migrations(self) -> Migrations:
        """Return the steps that make its tables."""
        return Migrations(SCRIPTS, VERSION_TABLE, ["postgis"])

    def jobs(self, platform: Platform) -> Sequence[Job]:
        """Return what looks after the data."""
        return jobs_of(self.settings(platform.installation), platform.tables_of(OWNER))

    def note_wait(self, seconds: float) -> None:
        """Count the wait for a connection."""
        metrics.waited(seconds)

    def note_request(self, answered: Answered) -> None:
        """Count a request to the API under the names that its dashboards know."""
        if answered.path not in PAGE:
            endpoint = answered.template or metrics.OTHER
            metrics.request(
                answered.method,
                endpoint,
                answered.status,
                answered.seconds,
                received=answered.received,
                sent=answered.sent,
            )

    def commands(self) -> Any:
        """Return `penstock health`: its keys, and its tables made anew."""
        from .commands import app

        return app

    @asynccontextmanager
    async def open(self, platform: Platform) -> AsyncIterator[Routes]:
        """Yield the API and the page; the data is looked after meanwhile."""
        settings = self.settings(platform.installation)
        database, access = platform.database, platform.tables_of(OWNER)
        gate = gate_of(settings, access)
        metrics.watch(database)
        async with gate.open():
            raw = await asyncio.to_thread(Raw.of, settings)
            health = service.Health(settings, database, access, raw, gate, outcomes_of(platform.context))
            api = _at_the_root(cast(Asgi, build(health)))
            page = await asyncio.to_thread(StaticPages, "penstock.apps.health.page", "/health-data")
            unsettled = await asyncio.to_thread(raw.recover)
            platform.start(raw.replay(unsettled, _hand_over))
            yield dict.fromkeys(PATHS, api) | dict.fromkeys(PAGE, page)


async def _hand_over(accepted: Accepted) -> None:
    await feed("health").send(batch(accepted), timeout=_OPENING_TIMEOUT)


def _at_the_root(app: Asgi) -> Asgi:
    """The routes of the API are whole paths, wherever they are mounted."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        scope["root_path"] = ""
        await app(scope, receive, send)

    return serve
