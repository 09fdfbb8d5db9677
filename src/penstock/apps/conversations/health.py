"""The health of following logs, as claude-mongo-sync tells it, and honest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from ...errors import ConfigError, PenstockError
from ...platform.database import Database
from ...platform.streams import describe
from ...serving.asgi import Receive, Scope, Send
from ...serving.listener import answer
from .schema import lines

PATHS = ("/", "/health", "/stats")
MONGODB = "conversations-mongodb"
"""The id of the stream that writes to MongoDB."""


def port_of(environment: Any) -> int | None:
    """Return the port of `HEALTH_PORT`; None if it is not set; raises ConfigError."""
    given = environment.get("HEALTH_PORT")
    if not given:
        return None
    if not given.isascii() or not given.isdigit() or not 0 < int(given) < 65536:
        raise ConfigError(f"HEALTH_PORT: expected a port from 1 to 65535, not {given!r}")
    return int(given)


class Health:
    """Answers `/health` and `/stats`: how much is stored and how much waits, and whether all streams are well."""

    def __init__(self, database: Database, streams: Callable[[], Sequence[Any]]) -> None:
        self._database, self._streams, self._began = database, streams, time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["path"] not in PATHS:
            await answer(send, 404, {"error": "Not found"})
            return
        told = await self.tell()
        status = 200 if told["status"] == "ok" else 503
        if scope["path"] == "/stats":
            told = {name: value for name, value in told.items() if name not in ("status", "uptime")}
            status = 200
        content = msgspec.json.format(msgspec.json.encode(told), indent=2)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def tell(self) -> dict[str, Any]:
        """Return how the following of logs is."""
        ours = [describe(one) for one in self._streams() if one.stream.id.startswith("conversations-")]
        is_well = bool(ours) and all(one.is_well for one in ours)
        try:
            synced, last = await self._database.run(_read)
        except PenstockError:
            is_well, synced, last = False, 0, None
        return {
            "status": "ok" if is_well else "unwell",
            "pending": sum(one.in_flight for one in ours),
            "synced": synced,
            "lastSyncAt": last.isoformat() if last is not None else None,
            "mongoConnected": any(one.is_well for one in ours if one.id == MONGODB),
            "uptime": int(time.monotonic() - self._began),
        }


def _read(connection: Connection) -> tuple[int, Any]:
    """Return how many lines are stored, and when the latest of them was read."""
    latest = connection.execute(select(lines.c.read_at).order_by(lines.c.id.desc()).limit(1)).scalar()
    return connection.scalar(select(func.count()).select_from(lines)) or 0, latest
