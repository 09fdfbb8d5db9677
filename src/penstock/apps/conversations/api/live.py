"""Which sessions have new lines: looked up while anybody watches."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, func, select

from ....platform.database import Database
from ..schema import lines

LOOK_INTERVAL = 0.25
"""Seconds from one look to the next, while anybody watches."""
MAX_SESSIONS = 200
"""How many sessions that have changed of late are told to who comes back."""

RECENT_LINES = 10_000
"""How many of the latest lines count as new at the first look: a page may have been read shortly before it."""


class Watch:
    """The latest line of each session that has changed since somebody began to watch."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last: int | None = None
        self._known: dict[str, bytes] = {}

    async def look(self) -> dict[str, bytes]:
        """Return each session that has changed, with its latest line; raises PenstockError."""
        for session, id, number in await self._database.run(self._read):
            self._known.pop(session, None)
            told = {"session": session, "line": id, "new": number}
            self._known[session] = msgspec.json.encode(told)
        while len(self._known) > MAX_SESSIONS:
            del self._known[next(iter(self._known))]
        return self._known

    def _read(self, connection: Connection) -> list[tuple[str, int, int]]:
        latest = connection.scalar(select(func.max(lines.c.id))) or 0
        last, self._last = latest - RECENT_LINES if self._last is None else self._last, latest
        if last == latest:
            return []
        found = (
            select(lines.c.session, func.max(lines.c.id), func.count())
            .where(lines.c.id > last, lines.c.session.is_not(None))
            .group_by(lines.c.session)
        )
        return [tuple(row) for row in connection.execute(found)]
