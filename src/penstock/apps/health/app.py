"""The health service as a value: its streams, and the service that serves its API and its page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib.resources import files
from typing import cast

from ...config.configuration import Configuration
from ...context import Context
from ...errors import TransientError
from ...inputs.feed import Feed, feed
from ...platform.access.gate import Gate
from ...platform.database import Database
from ...platform.pages import Page
from ...serving.asgi import Asgi, Receive, Scope, Send
from . import metrics
from .acceptance import batch
from .api.app import build
from .raw import Raw
from .schedule import Schedule
from .service import Health
from .settings import Settings

PATHS = ("/api/v1/*", "/v1/ingest", "/api/data", "/health/live", "/health/ready", "/ready")
"""Where the API is found."""
_PATIENCE = 600.0
"""How long the stream may take to open, in seconds."""
log = logging.getLogger("penstock.health")
PAGE = ("/health-data", "/health-data/*")


def streams_yaml() -> str:
    """Return the streams that are shipped."""
    return files(__package__).joinpath("streams.yaml").read_text()


def is_part_of(configuration: Configuration) -> bool:
    """Whether the streams of the service are among those of a configuration."""
    inputs = [stream.input for stream in configuration.streams]
    return any(isinstance(input, Feed) and input.name == "health" for input in inputs)


class Service:
    """Serves the API and the page, and looks after the data now and then."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Service:
        """Return the service that the environment describes; raises ConfigError naming the variable."""
        return cls(Settings.of(environment))

    def served(self) -> list[tuple[str, str]]:
        """Return the addresses and paths that it serves."""
        return [(self._settings.address, path) for path in (*PATHS, *PAGE)]

    async def serve(self, context: Context, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set."""
        settings = self._settings
        database = Database.of(settings.database_url.get_secret_value(), on_wait=metrics.waited)
        gate = Gate.of(settings, database)
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(gate.open())
                raw = await asyncio.to_thread(Raw.of, settings)
                health = Health(settings=settings, database=database, raw=raw, gate=gate)
                api = metrics.Measured(_at_the_root(cast(Asgi, build(health))))
                page = await asyncio.to_thread(Page)
                sending = asyncio.create_task(_send_again(raw))
                stack.callback(sending.cancel)
                mounts: list[tuple[str, Asgi]] = [(path, api) for path in PATHS] + [(path, page) for path in PAGE]
                for path, app in mounts:
                    await stack.enter_async_context(context.listeners.mount(settings.address, path, app))
                await Schedule(settings, database).serve(context, stop)
        finally:
            await asyncio.to_thread(database.close)


async def _send_again(raw: Raw) -> None:
    """Hand over what a process that died had made durable, and perhaps not handed to the stream."""
    for accepted in await asyncio.to_thread(lambda: list(raw.unsent())):
        try:
            await feed("health").send(batch(accepted), timeout=_PATIENCE)
        except TransientError as error:
            log.warning("ingest %s stays for the next start: %s", accepted.id, error)
        else:
            await raw.sent(accepted.id)


def _at_the_root(app: Asgi) -> Asgi:
    """The routes of the API are whole paths, wherever they are mounted."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        scope["root_path"] = ""
        await app(scope, receive, send)

    return serve
