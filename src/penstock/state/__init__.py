"""Where positions and keyed state are kept: one file per store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..checkpoint import CheckpointStore


@asynccontextmanager
async def open_store(where: str | Path) -> AsyncIterator[CheckpointStore]:
    """Open the store that ``where`` names: a SQLite file or ``sqlite:///`` URL, ``postgresql://`` or ``memory``.

    Raises ValueError for any other URL, ConnectionLost or PermanentError if it cannot be opened.
    """
    if where == "memory":
        from .memory import MemoryStore

        yield MemoryStore()
    elif isinstance(where, str) and where.startswith(("postgresql://", "postgres://")):
        from .postgres import PostgresStore

        async with PostgresStore.open(where) as postgres:
            yield postgres
    else:
        from .sqlite import SqliteStore

        async with SqliteStore.open(_path(where)) as sqlite:
            yield sqlite


def _path(where: str | Path) -> Path:
    if isinstance(where, Path) or "://" not in where:
        return Path(where)
    from ..clients.database import Sqlite, from_url

    scheme = where.partition("://")[0]
    database = from_url(where) if scheme == "sqlite" else None
    if not isinstance(database, Sqlite):
        raise ValueError(f"expected a path, sqlite:///, postgresql:// or memory, not a {scheme} URL")
    return database.path
