"""Write down when keys were last used, behind the requests that used them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Update, bindparam, update

from ...clock import Clock
from ..cache import Cache, SingleFlight
from ..database import Database
from .schema import keys

log = logging.getLogger("penstock.access")

WRITE_INTERVAL = 60.0
"""How often the last use of one key is written down, in seconds."""
CACHE_SIZE = 10_000
"""Of how many keys that is remembered, and how many may wait to be written down."""


class LastUse:
    """Write the last use of each key at most once a minute, those that come together in one transaction."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database, self._clock = database, clock or Clock()
        self._noted: Cache[str, bool] = Cache(ttl=WRITE_INTERVAL, size=CACHE_SIZE, clock=clock)
        self._pending: dict[str, datetime] = {}
        self._writing: SingleFlight[str, None] = SingleFlight(size=1)

    def note(self, key: str) -> None:
        """Have the use of ``key`` written down, unless that was done within the minute or too many wait."""
        if self._noted.get(key) or len(self._pending) >= CACHE_SIZE:
            return
        self._noted.put(key, True)
        self._pending[key] = datetime.fromtimestamp(self._clock.time(), UTC)
        self._writing.start("uses", self._write)

    async def close(self) -> None:
        """Wait until all uses are written down."""
        await self._writing.close()

    async def _write(self) -> None:
        statement = update(keys).where(keys.c.id == bindparam("key")).values(last_used_at=bindparam("used"))
        while self._pending:
            taken, self._pending = self._pending, {}
            rows = [{"key": key, "used": used} for key, used in taken.items()]
            try:
                await self._database.run(partial(_execute, statement, rows), changes=True)
            except Exception as error:  # No connection of the pool is free, for example.
                log.warning("the last use of %d keys is not written down: %s", len(taken), error)


def _execute(statement: Update, rows: list[dict[str, Any]], connection: Connection) -> None:
    connection.execute(statement, rows)
