"""What the engine lends to an application, and how it runs one: as a service beside the streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..application import Application, Installation, Job, Migrations, Routes
from ..clock import Clock
from ..config.configuration import Configuration
from ..context import Context
from .ownership import database_of

if TYPE_CHECKING:
    from .database import Database

__all__ = ["Application", "ApplicationService", "Installation", "Job", "Migrations", "Platform", "Routes"]


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

    @property
    def clock(self) -> Clock:
        """What time it is, and waiting."""
        return self.context.clock

    @cached_property
    def database(self) -> Database:
        """The tables of the application: a file of its own, or a schema of its own in PostgreSQL."""
        return database_of(self.installation, self.application.type_name)

    def close(self) -> None:
        """Close what was opened on demand."""
        if "database" in self.__dict__:
            self.database.close()


class ApplicationService:
    """One application as a service that the engine supervises: its routes and its jobs."""

    def __init__(self, application: Application, installation: Installation) -> None:
        self._application, self._installation = application, installation
        self.name = application.type_name

    def served(self) -> Sequence[tuple[str, str]]:
        """Return the addresses and paths that it serves."""
        return [(self._installation.address, path) for path in self._application.paths()]

    async def serve(self, context: Context, stop: asyncio.Event) -> None:
        """Serve the routes and do the jobs until ``stop`` is set."""
        log = logging.getLogger(f"penstock.{self.name}")
        platform = Platform(self._application, self._installation, context, log)
        address = self._installation.address
        try:
            async with AsyncExitStack() as stack:
                routes = await stack.enter_async_context(self._application.open(platform))
                for path, answer in routes.items():
                    await stack.enter_async_context(context.listeners.mount(address, path, answer))
                async with asyncio.TaskGroup() as jobs:
                    tasks = [jobs.create_task(_repeat(job, platform)) for job in self._application.jobs()]
                    await stop.wait()
                    for task in tasks:
                        task.cancel()
        finally:
            await asyncio.to_thread(platform.close)


async def _repeat(job: Job, platform: Platform) -> None:
    while True:
        try:
            await job.run(platform)
        except Exception as error:
            platform.log.error("the job %s failed: %s", job.name, error, exc_info=True)
        await platform.clock.sleep(job.every)


def services_of(configuration: Configuration) -> list[ApplicationService]:
    """Return what runs beside the streams of a configuration."""
    return [ApplicationService(one, configuration.installation) for one in configuration.applications]


def prepare(configuration: Configuration) -> None:
    """Make what the applications need before any stream runs; raises PenstockError."""
    for application in configuration.applications:
        application.prepare(configuration.installation)
