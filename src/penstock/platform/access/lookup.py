"""Read the state of a key from the database with each request, in well under a millisecond."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

import msgspec

from ...clock import Clock
from ...errors import PenstockError, TransientError
from ...runtime.threads import Threads
from ..cache import Cache, SingleFlight
from ..database import Database

log = logging.getLogger("penstock.access")

READ_TIMEOUT = 2.0
"""How long the database may take, in seconds."""
RETRY_INTERVAL = 1.0
"""How long the database is not asked after it failed, in seconds."""
STALE_TTL = 3600.0
"""How long a key that was read works on while the database is away, in seconds."""
CACHE_SIZE = 10_000
"""Of how many keys the last known state is kept, and how many may be asked for at once."""

_COLUMNS = "k.prefix, k.id, k.user_id, u.name, k.hash, k.scopes, k.limits, k.expires_at, k.revoked_at"
_FROM = f"SELECT {_COLUMNS} FROM penstock_keys k JOIN penstock_users u ON u.id = k.user_id"  # noqa: S608
_SQLITE = f"{_FROM} WHERE k.prefix = ?"
_POSTGRES = f"{_FROM} WHERE k.prefix = ANY(%s)"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a key by which it is admitted or refused."""

    key: str
    """The id of the key; of a session, of the key that began it, or empty."""
    user: int
    user_name: str
    hash: str
    scopes: frozenset[str]
    limits: Mapping[str, Mapping[str, int]]
    expires_at: datetime | None
    revoked_at: datetime | None
    session: str = ""
    """The id of the session, where one is admitted rather than a key."""

    def refusal(self, now: datetime) -> str | None:
        """Return why the key does not work, or None."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else None


class Lookup:
    """Read keys by their public prefix over a connection of its own; those asked for meanwhile are read together."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database, self._clock = database, clock or Clock()
        self._channel: _Channel | None = None
        self._asked: dict[str, asyncio.Future[tuple[Any, ...] | None]] = {}
        self._reading: SingleFlight[str, None] = SingleFlight(size=1)
        self._last: Cache[str, tuple[tuple[Any, ...], State]] = Cache(ttl=STALE_TTL, size=CACHE_SIZE, clock=self._clock)
        self._paused_until = 0.0

    async def find(self, prefix: str) -> State | None:
        """Return the key with this prefix, as it is now, or None.

        While the database is away, as it was when it was last seen, within the hour; else raises TransientError.
        """
        try:
            row = await self._read(prefix)
        except PenstockError as error:
            last = self._last.get(prefix)
            if last is None:
                raise TransientError("keys cannot be checked: the database does not answer") from error
            return last[1]
        if row is None:
            self._last.drop(prefix)
            return None
        last = self._last.get(prefix)
        state = last[1] if last is not None and last[0] == row else _state(row)
        self._last.put(prefix, (row, state))
        return state

    async def close(self) -> None:
        """Close the connection."""
        await self._reading.close()
        if self._channel is not None:
            self._channel.end()
            self._channel = None

    async def _read(self, prefix: str) -> tuple[Any, ...] | None:
        """Read the row; it is asked of the database after this was called, never before."""
        if self._clock.monotonic() < self._paused_until or len(self._asked) >= CACHE_SIZE:
            raise TransientError("the database has just failed, or too many keys are asked for")
        asked = self._asked.get(prefix)
        if asked is None:
            asked = self._asked[prefix] = asyncio.get_running_loop().create_future()
        self._reading.start("keys", self._read_all)
        return await asyncio.shield(asked)

    async def _read_all(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                rows = await self._query(list(asked))
            except Exception as raised:
                error = raised if isinstance(raised, PenstockError) else self._database.classify_error(raised)
                self._pause(error)
                for future in asked.values():
                    future.set_exception(error)
                    future.exception()  # whoever waited may have gone
            else:
                for prefix, future in asked.items():
                    future.set_result(rows.get(prefix))

    async def _query(self, prefixes: list[str]) -> dict[str, tuple[Any, ...]]:
        if self._channel is None:
            self._channel = _Channel(self._database)
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                rows = await self._channel.select(prefixes)
        except TimeoutError:
            raise TransientError(f"the database did not answer within {READ_TIMEOUT:g} s") from None
        return {row[0]: tuple(row) for row in rows}

    def _pause(self, error: PenstockError) -> None:
        """Leave the connection to itself, however long it hangs, and begin again with another."""
        if self._channel is not None:
            self._channel.end()
            self._channel = None
        self._paused_until = self._clock.monotonic() + RETRY_INTERVAL
        log.warning("keys are checked by their last known state: %s", error)


class _Channel:
    """A connection and the thread that uses it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads = Threads(1, "keys")
        self._connection: Any = None

    def select(self, prefixes: Sequence[str]) -> asyncio.Future[list[tuple[Any, ...]]]:
        return self._threads.run(self._select, prefixes)

    def end(self) -> None:
        """Close the connection once the thread is done with it."""
        self._threads.run(self._close)
        self._threads.shutdown()

    def __del__(self) -> None:
        self._close()
        self._threads.shutdown()

    def _select(self, prefixes: Sequence[str]) -> list[tuple[Any, ...]]:
        if self._database.is_postgres:
            if self._connection is None:
                self._connection = self._database.open(f"SET statement_timeout = {READ_TIMEOUT * 1000:.0f}")
                self._connection.autocommit = True
                self._connection.prepare_threshold = 0
            return cast(list[tuple[Any, ...]], self._connection.execute(_POSTGRES, [list(prefixes)]).fetchall())
        if self._connection is None:
            self._connection = self._database.open()
        found = (self._connection.execute(_SQLITE, (prefix,)).fetchone() for prefix in prefixes)
        return [row for row in found if row is not None]

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()


def _state(row: tuple[Any, ...]) -> State:
    _, key, user, user_name, hash, scopes, limits, expires_at, revoked_at = row
    return State(
        key=key,
        user=user,
        user_name=user_name,
        hash=hash,
        scopes=frozenset(json.loads(scopes)),
        limits=json.loads(limits) if limits else {},
        expires_at=_moment(expires_at),
        revoked_at=_moment(revoked_at),
    )


def _moment(value: str | datetime | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
