"""Keep positions in a PostgreSQL table: for processes that move from machine to machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
import psycopg
from pydantic import SecretStr

from ..clients.database import Postgres
from ..clients.postgres import ANSWER_TIMEOUT, classify_error, conninfo
from ..delivery import Position
from ..errors import ConnectionLost
from .seen import Seen

_EXISTS = "SELECT to_regclass('_penstock_checkpoints') IS NOT NULL"
_CREATE = "CREATE TABLE IF NOT EXISTS _penstock_checkpoints (key text PRIMARY KEY, position text NOT NULL)"
_LOAD = "SELECT position FROM _penstock_checkpoints WHERE key = %s"
_FIND = "SELECT key, position FROM _penstock_checkpoints WHERE key = ANY(%s) ORDER BY key FOR UPDATE"
_SAVE = """
INSERT INTO _penstock_checkpoints SELECT * FROM unnest(%s::text[], %s::text[])
ON CONFLICT (key) DO UPDATE SET position = excluded.position
"""


class PostgresStore:
    """Keeps positions in the table ``_penstock_checkpoints``; connects again when the server was restarted."""

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

    async def _execute(
        self, statement: str, values: tuple[object, ...], moved: Mapping[str, str] | None = None
    ) -> list[tuple[str, ...]]:
        """Run one statement; before positions are moved, see that no other process has moved them."""
        async with self._one_at_a_time:
            connection = await self._connected()
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT), connection.transaction():
                    if moved:
                        found = await connection.execute(_FIND, (list(moved),))
                        self._seen.check(dict(await found.fetchall()), moved)
                    cursor = await connection.execute(statement, values)
                    return await cursor.fetchall() if cursor.description else []
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
                    cursor = await connection.execute(_EXISTS)
                    if await cursor.fetchone() == (False,):
                        await self._create(connection)
            except BaseException:
                await connection.close()
                raise
        except (psycopg.Error, OSError) as error:
            raise classify_error(error, self._database, opening=True) from error
        self._connection = connection
        return connection

    @staticmethod
    async def _create(connection: psycopg.AsyncConnection) -> None:
        # Another process may make it at the same moment.
        with contextlib.suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
            await connection.execute(_CREATE)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
