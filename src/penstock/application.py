"""The kind of component that an application is: streams, tables, routes, jobs and commands under one prefix."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from .component import Component
from .serving.asgi import Asgi
from .stream import Stream

if TYPE_CHECKING:
    from .observe.http import Answered
    from .platform.application import Platform

Routes: TypeAlias = Mapping[str, Asgi]
"""What answers at each path; a path that ends in ``/*`` is answered with everything beneath it."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page for people: a view of the console, or a document of its own."""

    path: str
    """Where it is: below `/#` for a view of the console, else the path of its document."""
    title: str
    module: str = ""
    """The path of the ES module that shows it in the console; empty for a document of its own."""
    group: str = ""
    """The heading below which it is listed."""
    scope: str = ""
    """The scope without which it is not listed; empty for everybody who has signed in."""
    icon: str = ""
    """The name of its picture, among those of the console."""
    search: str = ""
    """The path of an API that lists what the search of the console finds besides the page; see docs/console.md."""
    application: str = ""
    """The application that declares it; filled in where it is run."""
    listed: bool = True
    """Whether it is in the navigation; others are reached by links alone."""

    @property
    def address(self) -> str:
        """The path and fragment by which a browser gets there."""
        return f"/#{self.path}" if self.module else self.path


@dataclass(frozen=True, slots=True)
class Installation:
    """Where one installation keeps its data and listens: what applications are built from."""

    data: Path = Path("penstock-data")
    """The folder of logs, files and embedded databases."""
    address: str = "127.0.0.1:8080"
    """Host and port of the routes."""
    database: str = field(default="", repr=False)
    """The URL of the database for rows, which may hold a password; empty for SQLite in the data folder."""
    pages: Sequence[Page] = ()
    """The pages of all applications that run here."""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    """The variables from which applications may take options."""
    scopes: Sequence[Any] = ()
    """What a key may be good for in all applications that run here, as `Scope` of `platform/access`."""

    @property
    def sign_in(self) -> str:
        """The command that prints a link by which a person signs in here, as `Application.greeting` writes commands."""
        elsewhere = "" if self.address == Installation().address else f" --address {self.address}"
        return f"{{penstock}} sign-in{{data}}{elsewhere}"

    @property
    def rows_url(self) -> str:
        """The URL of the database for rows."""
        return self.database or f"sqlite:///{quote(str(self.data / 'penstock.db'))}"


@dataclass(frozen=True, slots=True)
class Job:
    """Work that is done again and again while an application is open."""

    name: str
    """Its name in logs and metrics."""
    every: float
    """Seconds between one beginning and the next."""
    run: Callable[[Platform], Awaitable[None]]
    """Do the work once; an error is logged, and the next time comes all the same."""
    once_per_cluster: bool = True
    """Whether only one of several replicas does it at a time."""
    last_done: Callable[[Platform], Awaitable[datetime | None]] | None = None
    """Return when any replica did it last, so that a restart does not do it again; without it, none is known."""
    on_end: Callable[[str, float], None] | None = None
    """Called after each run with `success`, `failure` or `elsewhere`, and the seconds it took."""


@dataclass(frozen=True, slots=True)
class Migrations:
    """The steps by which the tables of an application came to be as they are."""

    scripts: Path
    """A folder of Alembic scripts whose names begin with their revisions."""
    version_table: str
    """The table that says which revision the tables have."""
    requires: Sequence[str] = ()
    """Extensions of PostgreSQL that the tables need."""


class Application(Component, package="applications"):
    """Streams, tables, routes, jobs, scopes and commands under one name.

    An application is a value: building one opens nothing. It is found by an entry point of the group
    ``penstock.applications``, owns its tables alone, and is run by the engine as a supervised service.
    """

    prefix: str = ""
    """The path below which everything is served; `/` and its `type` by default."""

    @property
    def root(self) -> str:
        """The path below which everything is served."""
        return self.prefix or f"/{self.type_name}"

    def needs(self, installation: Installation) -> Sequence[str]:
        """Return the applications that it builds on; a configuration that does not list them runs them too."""
        return ()

    def streams(self, installation: Installation) -> Sequence[Stream]:
        """Return its streams; raises ConfigError."""
        return ()

    def paths(self, installation: Installation) -> Sequence[str]:
        """Return the paths that ``open`` serves: those below its root, and those that older clients use."""
        return ()

    def spaces(self, installation: Installation) -> Sequence[str]:
        """Return the schemas and files of ``Output.spaces`` that it alone may write."""
        return ()

    def pages(self) -> Sequence[Page]:
        """Return its pages for people, in the order in which they are listed."""
        return ()

    def jobs(self, platform: Platform) -> Sequence[Job]:
        """Return what is done again and again while it is open."""
        return ()

    def migrations(self) -> Migrations | None:
        """Return the steps that make its tables; None if it has none."""
        return None

    def scopes(self) -> Sequence[Any]:
        """Return the scopes that a key may have here, as `Scope` of `platform/access`."""
        return ()

    def commands(self) -> Any:
        """Return a Typer with its commands, for `penstock <type> ...`; None if it has none."""
        return None

    def note_wait(self, seconds: float) -> None:
        """Take note of how long a use of its database waited for a connection."""

    def note_request(self, answered: Answered) -> None:
        """Take note of a request that was answered; the metrics `penstock_http_*` count it already."""

    def greeting(self, installation: Installation) -> Mapping[str, str]:
        """Return what a person can do first, by a word for it, to be printed once it is up."""
        return {}

    def prepare(self, installation: Installation) -> None:
        """Make what has to be there before any stream runs; raises PenstockError."""

    @asynccontextmanager
    async def open(self, platform: Platform) -> AsyncIterator[Routes]:
        """Yield what answers at each of ``paths``; it is served while this is open."""
        yield {}
