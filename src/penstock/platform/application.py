"""What the engine lends to an application, and how it runs one: as a service beside the streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ..application import Application, Installation, Job, Migrations, Page, Routes
from ..clock import Clock
from ..config.configuration import Configuration
from ..context import Context
from ..errors import ConnectionLost, TransientError
from ..observe.http import Measured
from .jobs import Jobs
from .ownership import database_of

if TYPE_CHECKING:
    from .archive import Archive, Receipt
    from .database import Database

__all__ = ["Application", "ApplicationService", "Installation", "Job", "Migrations", "Page", "Platform", "Routes"]

R = TypeVar("R", bound="Receipt")

log = logging.getLogger("penstock")


@dataclass(frozen=True)
class Platform:
    """What the engine lends to one application while it is open."""

    application: Application
    """Whom it is lent to."""
    installation: Installation
    """Where data is kept, and where routes are served."""
    context: Context
    """The listeners, the state store and the clock of the process."""
    log: logging.Logger
    """The logger of the application."""
    stop: asyncio.Event
    """Set when the application is to end."""
    tasks: asyncio.TaskGroup
    """What ends with the application."""
    _started: list[asyncio.Task[None]] = field(default_factory=list)
    _databases: dict[str, Database] = field(default_factory=dict)

    @property
    def clock(self) -> Clock:
        """What time it is, and waiting."""
        return self.context.clock

    @property
    def database(self) -> Database:
        """The tables of the application: a file of its own, or a schema of its own in PostgreSQL."""
        return self.tables_of(self.application.type_name)

    def tables_of(self, owner: str) -> Database:
        """Return the database of an application that this one needs; it is closed when this one ends."""
        if owner not in self._databases:
            self._databases[owner] = database_of(self.installation, owner, on_wait=self.application.note_wait)
        return self._databases[owner]

    def archive(self, receipt: type[R], url: str | None = None) -> Archive[R]:
        """Return where the application keeps bodies: a folder of its own, or an object store; raises ConfigError."""
        from .archive import Archive  # Its packages are needed only by applications that keep bodies.

        return Archive(self.installation.data / self.application.type_name / "raw", receipt, url)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` beside the routes; it is cancelled when the application ends, and ends it if it raises."""
        self._started.append(self.tasks.create_task(work))

    async def close(self) -> None:
        """Cancel what was started, and close what was opened on demand."""
        for task in self._started:
            task.cancel()
        for database in self._databases.values():
            await asyncio.to_thread(database.close)


class ApplicationService:
    """One application as a service that the engine supervises: its routes and its jobs."""

    def __init__(self, application: Application, installation: Installation) -> None:
        self._application, self._installation = application, installation
        self.name = application.type_name

    def served(self) -> Sequence[tuple[str, str]]:
        """Return the addresses and paths that it serves."""
        return [(self._installation.address, path) for path in self._application.paths(self._installation)]

    async def serve(self, context: Context, stop: asyncio.Event) -> None:
        """Serve the routes and do the jobs until ``stop`` is set."""
        log = logging.getLogger(f"penstock.{self.name}")
        async with asyncio.TaskGroup() as tasks:
            platform = Platform(self._application, self._installation, context, log, stop, tasks)
            try:
                async with AsyncExitStack() as stack:
                    routes = await stack.enter_async_context(self._application.open(platform))
                    for path, answer in routes.items():
                        measured = Measured(self.name, path, answer, self._application.note_request)
                        await stack.enter_async_context(
                            context.listeners.mount(self._installation.address, path, measured)
                        )
                    jobs = Jobs(platform, self._application.jobs(platform))
                    await jobs.serve()
                    await stop.wait()
            finally:
                await platform.close()


def services_of(configuration: Configuration) -> list[ApplicationService]:
    """Return what runs beside the streams of a configuration."""
    return [ApplicationService(one, configuration.installation) for one in configuration.all_applications()]


def prepare(configuration: Configuration) -> None:
    """Make what the applications need before any stream runs; raises PenstockError.

    A database that is away is waited for by the streams, so it does not keep the others from running.
    """
    for application in configuration.all_applications():
        try:
            application.prepare(configuration.installation)
        except (ConnectionLost, TransientError) as error:
            log.warning("%s: its tables are prepared later: %s", application.type_name, error)
