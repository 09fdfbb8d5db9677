"""Keep positions in a PostgreSQL table: for processes that move from machine to machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import LiteralString

import msgspec
import psycopg
from pydantic import SecretStr

from ..checkpoint import FORMAT, FORMAT_KEY, check_format
from ..clients.database import Postgres
from ..clients.postgres import ANSWER_TIMEOUT, classify_error, conninfo
from ..delivery import Position
from ..errors import ConfigError, ConnectionLost
from ..keyedstate import Changes, Entry, Prune, Version
from .rows import newest
from .seen import Seen

_COLUMNS = """
SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
WHERE attrelid = to_regclass('_penstock_checkpoints') AND attnum > 0 AND NOT attisdropped
"""
_FORMAT = "INSERT INTO _penstock_checkpoints VALUES (%s, %s) ON CONFLICT (key) DO NOTHING"
_CREATE = "CREATE TABLE IF NOT EXISTS _penstock_checkpoints (key text PRIMARY KEY, position text NOT NULL)"
_LOAD = "SELECT position FROM _penstock_checkpoints WHERE key = %s"
_FIND = "SELECT key, position FROM _penstock_checkpoints WHERE key = ANY(%s) ORDER BY key FOR UPDATE"
_SAVE = """
INSERT INTO _penstock_checkpoints SELECT * FROM unnest(%s::text[], %s::text[])
ON CONFLICT (key) DO UPDATE SET position = excluded.position
"""

_STATE_EXISTS = "SELECT to_regclass('_penstock_state') IS NOT NULL"
_CREATE_STATE = """
CREATE TABLE IF NOT EXISTS _penstock_state (
    stream text NOT NULL, name text NOT NULL, key text NOT NULL COLLATE "C", version bigint NOT NULL,
    value bytea, expires double precision, PRIMARY KEY (stream, name, key, version)
);
CREATE INDEX IF NOT EXISTS _penstock_state_expires ON _penstock_state (stream, expires) WHERE expires IS NOT NULL
"""
_LOAD_STATE = """
SELECT key, value, expires FROM _penstock_state
WHERE stream = %s AND name = %s AND (version <= %s OR version = %s) ORDER BY version
"""
_SAVE_STATE = """
INSERT INTO _penstock_state
SELECT %s, name, key, %s, value, expires
FROM unnest(%s::text[], %s::text[], %s::bytea[], %s::float8[]) AS changed (name, key, value, expires)
ON CONFLICT (stream, name, key, version) DO UPDATE SET value = excluded.value, expires = excluded.expires
"""
_EXPIRE = "DELETE FROM _penstock_state WHERE stream = %s AND expires <= %s"
_DELETE_VOID = "DELETE FROM _penstock_state WHERE stream = %s AND version > %s AND version < %s"
_DELETE_ABOVE = "DELETE FROM _penstock_state WHERE stream = %s AND version > %s"
_DELETE_REPLACED = """
DELETE FROM _penstock_state AS old USING unnest(%s::text[], %s::text[]) AS place (name, key)
WHERE old.stream = %s AND old.name = place.name AND old.key = place.key
    AND (version < %s OR version = %s AND value IS NULL)
"""


class PostgresStore:
    """Keeps positions in the table ``_penstock_checkpoints``; connects again when the server was restarted."""

    notice = None

    def __init__(self, database: Postgres) -> None:
        self._database = database
        self._connection: psycopg.AsyncConnection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._seen = Seen()

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[PostgresStore]:
        """Connect, and make the table if need be; raises ConnectionLost or PermanentError."""
        store = cls(Postgres(uri=SecretStr(url)))
        try:
            async with store._one_at_a_time:
                await store._connected()
            yield store
        finally:
            await store._disconnect()

    async def load(self, key: str) -> Position | None:
        """Return what was last saved under ``key``."""
        rows = await self._execute(_LOAD, (key,))
        self._seen.note(key, rows[0][0] if rows else None)
        return msgspec.json.decode(rows[0][0]) if rows else None

    async def save(self, positions: Mapping[str, Position]) -> None:
        """Keep all of ``positions``, or none of them; returns once the server has committed."""
        keys = sorted(positions)  # In one order everywhere, so that two processes cannot wait for each other.
        texts = [msgspec.json.encode(positions[key]).decode() for key in keys]
        entries = dict(zip(keys, texts, strict=True))
        await self._execute(_SAVE, (keys, texts), entries)
        for key, text in entries.items():
            self._seen.note(key, text)

    async def load_state(self, stream: str, name: str, version: Version) -> Mapping[str, Entry]:
        """Return the state ``name`` of a stream as of a version, the longest unchanged first."""
        async with self._transaction() as connection:
            cursor = await connection.execute(_STATE_EXISTS)
            if await cursor.fetchone() == (False,):
                await self._create(connection, _CREATE_STATE)
            cursor = await connection.execute(_LOAD_STATE, (stream, name, version.base, version.number))
            return newest(await cursor.fetchall())

    async def save_state(self, stream: str, number: int, changes: Changes, prune: Prune) -> None:
        """Keep changes under a new version number; returns once the server has committed."""
        places, entries = sorted(changes), changes
        values = [entry and entry.value for entry in map(entries.get, places)]
        ends = [entry and entry.expires for entry in map(entries.get, places)]
        async with self._transaction() as connection:
            last = prune.settled.number
            if prune.has_void:
                await connection.execute(_DELETE_VOID, (stream, prune.settled.base, last))
            if prune.has_void and prune.is_certain:
                await connection.execute(_DELETE_ABOVE, (stream, last))
            replaced = [name for name, _ in prune.replaced], [key for _, key in prune.replaced]
            await connection.execute(_DELETE_REPLACED, (*replaced, stream, last, last))
            await connection.execute(_EXPIRE, (stream, prune.now))
            columns = [name for name, _ in places], [key for _, key in places], values, ends
            await connection.execute(_SAVE_STATE, (stream, number, *columns))

    async def _execute(
        self, statement: str, values: tuple[object, ...], moved: Mapping[str, str] | None = None
    ) -> list[tuple[str, ...]]:
        """Run one statement; before positions are moved, see that no other process has moved them."""
        async with self._transaction() as connection:
            if moved:
                found = await connection.execute(_FIND, (list(moved),))
                self._seen.check(dict(await found.fetchall()), moved)
            cursor = await connection.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[psycopg.AsyncConnection]:
        """Yield the connection in a transaction of its own, which ends in time or with ConnectionLost."""
        async with self._one_at_a_time:
            connection = await self._connected()
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT), connection.transaction():
                    yield connection
            except TimeoutError as error:
                await self._disconnect()
                raise ConnectionLost(f"postgres: no answer for {ANSWER_TIMEOUT:.0f} s") from error
            except (psycopg.Error, OSError) as error:
                lost = classify_error(error, self._database)
                if isinstance(lost, ConnectionLost):
                    await self._disconnect()
                raise lost from error
            except asyncio.CancelledError:
                await self._disconnect()
                raise

    async def _connected(self) -> psycopg.AsyncConnection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        try:
            connection = await psycopg.AsyncConnection.connect(conninfo(self._database), autocommit=True)
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    await self._prepare(connection)
            except BaseException:
                await connection.close()
                raise
        except (psycopg.Error, OSError) as error:
            raise classify_error(error, self._database, opening=True) from error
        self._connection = connection
        return connection

    @staticmethod
    async def _create(connection: psycopg.AsyncConnection, statement: LiteralString) -> None:
        # Another process may make it at the same moment.
        exists = (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject)
        with contextlib.suppress(*exists):
            async with connection.transaction():
                await connection.execute(statement)

    async def _prepare(self, connection: psycopg.AsyncConnection) -> None:
        """Make the table if there is none; raises ConfigError if it is not understood, and changes nothing then."""
        (columns,) = await (await connection.execute(_COLUMNS)).fetchone() or (None,)
        if columns is None:
            await self._create(connection, _CREATE)
        elif columns != ["key", "position"]:
            raise ConfigError(
                f"postgres: _penstock_checkpoints has the columns {', '.join(columns)}, expected key and position: "
                "nothing was changed"
            )
        found = await (await connection.execute(_LOAD, (FORMAT_KEY,))).fetchone()
        check_format(found[0] if found is not None else None, "postgres")
        if found is None:
            await connection.execute(_FORMAT, (FORMAT_KEY, FORMAT))

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
