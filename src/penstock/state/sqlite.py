"""Keep positions in a SQLite file: for one process, or for several at once."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec

from ..clients.sqlite import classify_error, connect
from ..delivery import Position
from ..errors import ConfigError
from ..runtime.threads import OwnThread
from .seen import Seen

_CREATE = "CREATE TABLE IF NOT EXISTS _penstock_checkpoints (key TEXT PRIMARY KEY, position TEXT NOT NULL)"
_LOAD = "SELECT position FROM _penstock_checkpoints WHERE key = ?"
_SAVE = "INSERT INTO _penstock_checkpoints VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET position = excluded.position"


class SqliteStore:
    """Keeps positions in a file; what ``save`` returned from survives a crash of the machine."""

    def __init__(self, path: Path, connection: sqlite3.Connection, thread: OwnThread) -> None:
        self._path, self._connection, self._thread = path, connection, thread
        self._seen = Seen()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[SqliteStore]:
        """Open the file, making it if need be; raises ConnectionLost or PermanentError."""
        async with OwnThread("penstock-state") as thread:
            try:
                connection = await thread.run(_connect, path)
            except (sqlite3.Error, OSError) as error:
                raise classify_error(error, path, opening=True) from error
            try:
                yield cls(path, connection, thread)
            finally:
                await thread.run(connection.close)

    async def load(self, key: str) -> Position | None:
        """Return what was last saved under ``key``."""
        text = await self._thread.run(self._load, key)
        return None if text is None else msgspec.json.decode(text)

    async def save(self, positions: Mapping[str, Position]) -> None:
        """Keep all of ``positions``, or none of them; returns once they are on the disk."""
        entries = [(key, msgspec.json.encode(position).decode()) for key, position in positions.items()]
        await self._thread.run(self._save, entries)

    def _load(self, key: str) -> str | None:
        try:
            text = self._find(key)
        except sqlite3.Error as error:
            raise classify_error(error, self._path) from error
        self._seen.note(key, text)
        return text

    def _find(self, key: str) -> str | None:
        row = self._connection.execute(_LOAD, (key,)).fetchone()
        return row[0] if row else None

    def _save(self, entries: list[tuple[str, str]]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._seen.check({key: self._find(key) for key, _ in entries}, dict(entries))
            self._connection.executemany(_SAVE, entries)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise classify_error(error, self._path) from error
        except ConfigError:
            self._connection.execute("ROLLBACK")
            raise
        for key, position in entries:
            self._seen.note(key, position)


def _connect(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    try:
        exists = "SELECT 1 FROM sqlite_master WHERE name = '_penstock_checkpoints'"
        if connection.execute(exists).fetchone() is None:
            connection.execute(_CREATE)
    except BaseException:
        with closing(connection):
            raise
    return connection
