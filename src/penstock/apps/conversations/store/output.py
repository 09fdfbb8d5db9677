"""Store the lines of agents' logs, each once, with what is found and counted in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr, field_validator

from ....clients.database import Duckdb, from_url
from ....component import Output, Writer
from ....context import Context
from ....delivery import Batch
from ....errors import RowsRejected
from ....platform.database import Database
from ....platform.migration import migrate
from ....runtime.threads import OwnThread
from ..schema import SCRIPTS, VERSION_TABLE
from .reading import read_rows
from .store import Source, Store


class Conversations(Output, type="conversations"):
    """Store lines of coding agents' logs in SQLite or PostgreSQL: byte for byte, searched, and counted.

    A row is one line in `__value__`, from a file input that tells the `path` in `__meta_ext` and the number of the line
    in `__meta_offset`. A line that comes again is stored once. When a file was written anew, the lines that are still
    in it take their new places, and the others stay stored. Text that is not a JSON object goes to the error output.

    Example::

        type: conversations
        url: sqlite:///penstock-data/penstock-conversations.db
        root: /home/me/.claude/projects
        host: laptop
        owner: me
    """

    url: SecretStr
    """The database: `sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://...`."""
    schema_name: str | None = None
    """The schema of PostgreSQL that the tables are in; it is made if it is missing."""
    root: Path
    """The folder of the logs: a project is a folder in it, and what lies in it directly is of a project of its name."""
    host: str
    """The machine on which the logs were written."""
    owner: str
    """The person whose agent wrote them."""

    @field_validator("url")
    @classmethod
    def _check(cls, url: SecretStr) -> SecretStr:
        if isinstance(from_url(url.get_secret_value()), Duckdb):
            raise ValueError("expected a url that begins with sqlite:/// or postgresql://")
        return url

    def reads_metadata(self) -> bool:
        """Lines are known by their file and their place in it."""
        return True

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Bring the tables up to date and connect."""
        database = Database.of(self.url.get_secret_value(), schema=self.schema_name)
        async with OwnThread(f"{context.name}-conversations") as thread:
            store = await thread.run(_connect, database, Source(self.root, self.host, self.owner))
            try:
                yield _Writer(store, thread)
            finally:
                await thread.run(_close, store, context)


def _connect(database: Database, source: Source) -> Store:
    try:
        migrate(database, SCRIPTS, VERSION_TABLE)
        return Store(database, source)
    except Exception as error:
        raise database.classify_error(error) from error


def _close(store: Store, context: Context) -> None:
    """A connection that is lost cannot be closed in good order; everything committed is there all the same."""
    try:
        store.close()
    except Exception as error:
        context.log.debug("%s: closing: %s", context.name, error)


class _Writer:
    def __init__(self, store: Store, thread: OwnThread) -> None:
        self._store, self._thread = store, thread

    async def write(self, batches: Sequence[Batch]) -> None:
        """Store the lines in one transaction; raises RowsRejected for rows that are not a line of a log."""
        await self._thread.run(self._write, batches)

    def _write(self, batches: Sequence[Batch]) -> None:
        rows, refused = read_rows(batches)
        if refused:  # nothing was written: the others come again without them
            raise RowsRejected(refused, across=len(batches) > 1)
        self._store.write(rows)
