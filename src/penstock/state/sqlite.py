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
from ..keyedstate import Changes, Entry, Prune, Version
from ..runtime.threads import OwnThread
from .rows import newest
from .seen import Seen

_CREATE = "CREATE TABLE IF NOT EXISTS _penstock_checkpoints (key TEXT PRIMARY KEY, position TEXT NOT NULL)"
_LOAD = "SELECT position FROM _penstock_checkpoints WHERE key = ?"
_SAVE = "INSERT INTO _penstock_checkpoints VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET position = excluded.position"

_CREATE_STATE = """
CREATE TABLE IF NOT EXISTS _penstock_state (
    stream TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, value BLOB, expires REAL,
    PRIMARY KEY (stream, name, key, version)
) WITHOUT ROWID
"""
_INDEX_STATE = (
    "CREATE INDEX IF NOT EXISTS _penstock_state_expires ON _penstock_state (stream, expires) WHERE expires IS NOT NULL"
)
_LOAD_STATE = """
SELECT key, value, expires FROM _penstock_state
WHERE stream = ? AND name = ? AND (version <= ? OR version = ?) ORDER BY version
"""
_SAVE_STATE = "INSERT OR REPLACE INTO _penstock_state VALUES (?, ?, ?, ?, ?, ?)"
_EXPIRE = "DELETE FROM _penstock_state WHERE stream = ? AND expires <= ?"
_DELETE_VOID = "DELETE FROM _penstock_state WHERE stream = ? AND version > ? AND version < ?"
_DELETE_ABOVE = "DELETE FROM _penstock_state WHERE stream = ? AND version > ?"
_DELETE_REPLACED = """
DELETE FROM _penstock_state
WHERE stream = ? AND name = ? AND key = ? AND (version < ? OR version = ? AND value IS NULL)
"""


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

    async def load_state(self, stream: str, name: str, version: Version) -> Mapping[str, Entry]:
        """Return the state ``name`` of a stream as of a version, the longest unchanged first."""
        return await self._thread.run(self._load_state, stream, name, version)

    async def save_state(self, stream: str, number: int, changes: Changes, prune: Prune) -> None:
        """Keep changes under a new version number; returns once they are on the disk."""
        await self._thread.run(self._save_state, stream, number, changes, prune)

    def _load_state(self, stream: str, name: str, version: Version) -> dict[str, Entry]:
        try:
            self._connection.execute(_CREATE_STATE)
            self._connection.execute(_INDEX_STATE)
            rows = self._connection.execute(_LOAD_STATE, (stream, name, version.base, version.number))
            return newest(rows)
        except sqlite3.Error as error:
            raise classify_error(error, self._path) from error

    def _save_state(self, stream: str, number: int, changes: Changes, prune: Prune) -> None:
        execute, execute_many = self._connection.execute, self._connection.executemany
        rows = [
            (stream, name, key, number, entry and entry.value, entry and entry.expires)
            for (name, key), entry in changes.items()
        ]
        try:
            execute("BEGIN IMMEDIATE")
            last = prune.settled.number
            if prune.has_void:
                execute(_DELETE_VOID, (stream, prune.settled.base, last))
            if prune.has_void and prune.is_certain:
                execute(_DELETE_ABOVE, (stream, last))
            execute_many(_DELETE_REPLACED, ((stream, *place, last, last) for place in prune.replaced))
            execute(_EXPIRE, (stream, prune.now))
            execute_many(_SAVE_STATE, rows)
            execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise classify_error(error, self._path) from error

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
