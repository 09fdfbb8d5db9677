"""Access as an application: the tables of users and keys, and the stream of the audit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import ClassVar

from ...application import Application, Installation, Routes
from ...config.configuration import loads
from ...platform.access.legacy import prepare
from ...platform.access.schema import OWNER
from ...platform.application import Platform
from ...platform.ownership import database_of, space_of, url_of
from ...stream import Stream


class Access(Application, type="access"):
    """Keep users, keys and the audit, by which other applications tell who may do what.

    Applications that take keys bring it along. Its tables are in a file of their own beside that of the rows, or in the
    schema `platform` of PostgreSQL. Keys are made by `penstock keys create`; only hashes of them are kept.

    Example::

        type: access
    """

    extra: ClassVar[str] = "health"

    def streams(self, installation: Installation) -> Sequence[Stream]:
        """Return the stream of the audit; raises ConfigError."""
        schema = database_of(installation, OWNER).schema or ""  # SQLite has none
        variables = {"DATABASE": url_of(installation, OWNER), "SCHEMA": schema}
        return loads(files(__package__).joinpath("streams.yaml").read_text(), environment=variables).streams

    def spaces(self, installation: Installation) -> Sequence[str]:
        """Return the file or the schema of its tables."""
        return [space_of(installation, OWNER)]

    def prepare(self, installation: Installation) -> None:
        """Make the tables; the first time, take over what an older version had; raises PenstockError."""
        prepare(installation)

    @asynccontextmanager
    async def open(self, platform: Platform) -> AsyncIterator[Routes]:
        """Make the tables, unless that was done before; the engine tries again while the database is away."""
        await asyncio.to_thread(prepare, platform.installation)
        yield {}
