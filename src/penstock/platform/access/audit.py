"""The audit: who did what, and when, durable before the request is answered."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import pyarrow as pa
from sqlalchemy import Connection, delete, select

from ...clock import Clock
from ...errors import PenstockError
from ...identifiers import new_id
from ...inputs.feed import feed
from ..cache import Cache, SingleFlight
from .caller import Caller
from .schema import audit as table

log = logging.getLogger("penstock.access.audit")

Outcome = Literal["success", "refused", "failed"]
FEED = "penstock-audit"
SEND_TIMEOUT = 2.0
"""How long the stream may take to make rows durable, in seconds."""
BATCH_SIZE = 1000
"""How many rows are sent at once."""
QUEUE_SIZE = 10_000
"""How many rows may wait to be sent; later ones wait for room."""
REPEAT_INTERVAL = 60.0
"""How often something that repeats is written down, in seconds."""
MAX_USER_AGENT = 512
"""How many characters of a user agent are kept."""

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("user_id", pa.int64()),
        pa.field("key_id", pa.string()),
        pa.field("action", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("resource", pa.string()),
        pa.field("address", pa.string()),
        pa.field("user_agent", pa.string()),
        pa.field("request_id", pa.string()),
        pa.field("details", pa.string()),
    ]
)
"""The columns of ``penstock_audit``."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the audit."""

    id: str
    time: datetime
    user_id: int | None
    key_id: str | None
    action: str
    outcome: Outcome
    resource: str | None
    address: str | None
    user_agent: str | None
    request_id: str | None
    details: str | None


def entry(
    action: str,
    outcome: Outcome,
    *,
    caller: Caller | None = None,
    resource: str | None = None,
    details: Mapping[str, Any] | None = None,
    user: int | None = None,
    key: str | None = None,
) -> Entry:
    """Return a row of now; ``user`` and ``key`` are used without a ``caller``."""
    return Entry(
        id=new_id(),
        time=datetime.now(UTC),
        user_id=caller.user if caller is not None and caller.user else user,
        key_id=caller.key if caller is not None and caller.key else key,
        action=action,
        outcome=outcome,
        resource=resource,
        address=caller.address if caller else None,
        user_agent=(caller.user_agent[:MAX_USER_AGENT] or None) if caller else None,
        request_id=(caller.request_id or None) if caller else None,
        details=_encode({"session": caller.session, **(details or {})} if caller and caller.session else details),
    )


def _encode(details: Mapping[str, Any] | None) -> str | None:
    return json.dumps(details, default=str) if details else None


def batch(entries: list[Entry]) -> pa.RecordBatch:
    """Return rows as a batch with the columns of SCHEMA."""
    columns = [pa.array([getattr(row, field.name) for row in entries], field.type) for field in SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


class Audit:
    """Send rows to the stream behind ``feed("penstock-audit")``; those that come while it writes go together.

    A row that cannot be sent is logged with all its fields as an error: no request fails for it.
    """

    def __init__(self, timeout: float = SEND_TIMEOUT, clock: Clock | None = None) -> None:
        self._timeout = timeout
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._room = asyncio.Semaphore(QUEUE_SIZE)
        self._sending: SingleFlight[str, None] = SingleFlight(size=1)
        self._repeated = Repetitions(clock)

    async def record(
        self,
        action: str,
        outcome: Outcome = "success",
        *,
        caller: Caller | None = None,
        resource: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Write what ``caller`` did; returns when the row is durable, or logged because it could not be."""
        await self.write(entry(action, outcome, caller=caller, resource=resource, details=details))

    async def write(self, row: Entry) -> None:
        """Write a row; returns when it is durable, or logged because it could not be."""
        await (await self.begin(row))

    async def begin(self, row: Entry) -> asyncio.Future[None]:
        """Queue a row once there is room for it; what is returned is done once ``write`` would return."""
        await self._room.acquire()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda _: self._room.release())
        self._waiting.append((row, done))
        self._sending.start("rows", self._send_all)
        return done

    async def write_rarely(self, row: Entry) -> None:
        """Write something that a client may repeat without limit: once a minute for each address, key and action.

        The row then says how many there were since the last (``details.times``).
        """
        session = json.loads(row.details or "{}").get("session")
        times = self._repeated.count((row.action, row.key_id, session, row.address))
        if times:
            details = json.loads(row.details or "{}") | {"times": times}
            await self.write(msgspec.structs.replace(row, details=json.dumps(details)))

    async def close(self) -> None:
        """Wait until all rows are sent."""
        await self._sending.close()

    async def _send_all(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting[:BATCH_SIZE], self._waiting[BATCH_SIZE:]
            try:
                await self._send([row for row, _ in taken])
            finally:
                for _, done in taken:
                    if not done.done():
                        done.set_result(None)

    async def _send(self, rows: list[Entry]) -> None:
        sender = feed(FEED)
        try:
            if not sender.is_open:
                raise PenstockError(f"no stream takes feed {FEED!r}")
            await sender.send(batch(rows), timeout=self._timeout)
        except Exception as error:
            for row in rows:
                log.error("an audit row could not be written (%s): %s", error, msgspec.json.encode(row).decode())


class Repetitions:
    """Count what repeats, and say when to write it down."""

    def __init__(self, clock: Clock | None = None, *, interval: float = REPEAT_INTERVAL, size: int = 10_000) -> None:
        self._clock, self._interval = clock or Clock(), interval
        self._seen: Cache[Any, list[float]] = Cache(ttl=2 * interval, size=size, clock=self._clock)

    def count(self, what: Any) -> int:
        """Return how often it happened since it was last written down, if that is due; else 0."""
        now = self._clock.monotonic()
        written, times = self._seen.get(what) or [now - self._interval, 0]
        due = now - written >= self._interval
        self._seen.put(what, [now, 0] if due else [written, times + 1])
        return int(times) + 1 if due else 0


def forget_audit(connection: Connection, before: datetime) -> int:
    """Delete at most 10,000 rows of the audit that are older than ``before``; return how many."""
    old = select(table.c.id).where(table.c.time < before).limit(10_000)
    return connection.execute(delete(table).where(table.c.id.in_(old))).rowcount
