"""Keep positions in a SQLite file: for one process, or for several at once."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec

from ..checkpoint import FORMAT, FORMAT_KEY, check_format
from ..clients.disk import OpenedFile
from ..clients.sqlite import classify_error, connect
from ..delivery import Position
from ..errors import ConfigError, PenstockError, TransientError
from ..keyedstate import Changes, Entry, Prune, Version
from ..runtime.threads import OwnThread
from .rows import newest
from .seen import Seen

log = logging.getLogger("penstock")

_CREATE = "CREATE TABLE IF NOT EXISTS _penstock_checkpoints (key TEXT PRIMARY KEY, position TEXT NOT NULL)"
_COLUMNS = "SELECT name FROM pragma_table_info('_penstock_checkpoints')"
_LOAD = "SELECT position FROM _penstock_checkpoints WHERE key = ?"
_SAVE = "INSERT INTO _penstock_checkpoints VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET position = excluded.position"
_MAX_TRIES = 3

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

    def __init__(self, path: Path, thread: OwnThread) -> None:
        self._path, self._thread = path, thread
        self._connection: sqlite3.Connection | None = None
        self._file = OpenedFile(path)
        self._seen, self._has_state, self._is_new = Seen(), False, False
        self.notice: str | None = None
        """What a person should know of the file."""

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[SqliteStore]:
        """Open the file, making it if need be; raises ConfigError, ConnectionLost or PermanentError."""
        async with OwnThread("penstock-state") as thread:
            store = cls(path, thread)
            try:
                await thread.run(store._begin)
            except (sqlite3.Error, OSError) as error:
                raise classify_error(error, path, opening=True) from error
            try:
                yield store
            finally:
                await thread.run(store._close)

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
            connection = self._connected()
            connection.execute(_CREATE_STATE)
            connection.execute(_INDEX_STATE)
            self._has_state = True
            rows = connection.execute(_LOAD_STATE, (stream, name, version.base, version.number))
            return newest(rows)
        except (sqlite3.Error, OSError) as error:
            raise classify_error(error, self._path) from error

    def _save_state(self, stream: str, number: int, changes: Changes, prune: Prune) -> None:
        rows = [
            (stream, name, key, number, entry and entry.value, entry and entry.expires)
            for (name, key), entry in changes.items()
        ]

        def change(connection: sqlite3.Connection) -> None:
            last = prune.settled.number
            if prune.has_void:
                connection.execute(_DELETE_VOID, (stream, prune.settled.base, last))
            if prune.has_void and prune.is_certain:
                connection.execute(_DELETE_ABOVE, (stream, last))
            connection.executemany(_DELETE_REPLACED, ((stream, *place, last, last) for place in prune.replaced))
            connection.execute(_EXPIRE, (stream, prune.now))
            connection.executemany(_SAVE_STATE, rows)

        self._transact(change)

    def _load(self, key: str) -> str | None:
        try:
            text = self._find(self._connected(), key)
        except (sqlite3.Error, OSError) as error:
            raise classify_error(error, self._path) from error
        self._seen.note(key, text)
        return text

    @staticmethod
    def _find(connection: sqlite3.Connection, key: str) -> str | None:
        row = connection.execute(_LOAD, (key,)).fetchone()
        return row[0] if row else None

    def _save(self, entries: list[tuple[str, str]]) -> None:
        def change(connection: sqlite3.Connection) -> None:
            self._seen.check({key: self._find(connection, key) for key, _ in entries}, dict(entries))
            connection.executemany(_SAVE, entries)

        self._transact(change)
        for key, position in entries:
            self._seen.note(key, position)

    def _transact(self, change: Callable[[sqlite3.Connection], None]) -> None:
        """Change the file, and see that it is still there: what is written to one that was deleted is saved nowhere."""
        for _ in range(_MAX_TRIES):
            try:
                connection = self._connected()
                connection.execute("BEGIN IMMEDIATE")
                change(connection)
                connection.execute("COMMIT")
            except (sqlite3.Error, OSError, PenstockError) as error:
                if self._connection is not None and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise classify_error(error, self._path) from error
            if self._file.is_there():
                return
        raise TransientError(f"sqlite {self._path}: it is deleted again and again")

    def _connected(self) -> sqlite3.Connection:
        """Return the connection to the file that is there; one that was deleted is made again with what is known."""
        if self._connection is not None and self._file.is_there():
            return self._connection
        was_open, is_there = self._connection is not None, self._path.exists()
        self._close()
        connection = self._connect()
        if not was_open:
            return connection
        if is_there:
            self._tell("was replaced by another file while it was in use")
        else:
            known = self._seen.known
            connection.executemany(_SAVE, list(known.items()))
            lost = ""
            if self._has_state:
                connection.execute(_CREATE_STATE)
                connection.execute(_INDEX_STATE)
                lost = "; what streams keep by key is lost, so that rows may come twice"
            self._tell(f"was deleted while it was in use: made anew with the {len(known)} positions in use{lost}")
        return connection

    def _begin(self) -> None:
        """Open the file for the first time, and say so if it held positions once and holds none any more."""
        mark = self._path.with_name(f"{self._path.name}.made")
        was_made = mark.exists()
        self._connect()
        mark.touch(0o600)
        if not (was_made and self._is_new):
            return
        self._tell(
            "is not what it was: it was deleted, emptied or replaced since the last run. The positions in it are lost: "
            "inputs are read as if for the first time, and rows may come twice"
        )

    def _tell(self, what: str) -> None:
        self.notice = f"{self._path} {what}"
        log.warning("%s", self.notice)

    def _connect(self) -> sqlite3.Connection:
        """Open the file once it is understood; raises ConfigError otherwise, and changes nothing."""
        if self._path.exists():
            with closing(connect(self._path, read_only=True)) as reading:
                self._check(reading)
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(0o600)  # keyed state has values of rows in it
        connection = connect(self._path)
        try:
            self._check(connection)
            if connection.execute(_COLUMNS).fetchone() is None:
                connection.execute(_CREATE)
                self._is_new = True
            if self._find(connection, FORMAT_KEY) is None:
                connection.execute(_SAVE, (FORMAT_KEY, FORMAT))
        except BaseException:
            with closing(connection):
                raise
        self._connection, self._file = connection, OpenedFile(self._path)
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        columns = [name for (name,) in connection.execute(_COLUMNS)]
        if columns and columns != ["key", "position"]:
            raise ConfigError(
                f"sqlite {self._path}: _penstock_checkpoints has the columns {', '.join(columns)}, expected key and "
                "position: nothing was changed"
            )
        if columns:
            check_format(self._find(connection, FORMAT_KEY), f"sqlite {self._path}")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
