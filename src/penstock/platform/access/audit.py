"""Who did what, and when: rows that are durable before the answer is given."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import pyarrow as pa

from ...errors import PenstockError
from ...identifiers import new_id
from ...inputs.feed import feed
from .caller import Caller

log = logging.getLogger("penstock.health.audit")

Outcome = Literal["success", "refused", "failed"]
FEED = "health-audit"
PATIENCE = 2.0
"""How long the stream may take to make rows durable, in seconds."""
TOGETHER = 1000
"""How many rows are sent at once."""
MOST_WAITING = 10_000
"""How many rows may wait to be sent; who comes later waits for room."""
LONGEST = 512
"""How many characters are kept of what a client says of itself."""

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
"""The columns of ``health_audit``."""


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
    """Return the row for what ``caller`` did now; ``user`` and ``key`` stand in where there is none."""
    return Entry(
        id=new_id(),
        time=datetime.now(UTC),
        user_id=caller.user if caller is not None and caller.user else user,
        key_id=caller.key if caller is not None and caller.key else key,
        action=action,
        outcome=outcome,
        resource=resource,
        address=caller.address if caller else None,
        user_agent=(caller.user_agent[:LONGEST] or None) if caller else None,
        request_id=(caller.request_id or None) if caller else None,
        details=json.dumps(details, default=str) if details else None,
    )


def batch(entries: list[Entry]) -> pa.RecordBatch:
    """Return the rows as the stream takes them."""
    columns = [pa.array([getattr(row, field.name) for row in entries], field.type) for field in SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


class Audit:
    """Sends rows to the stream behind ``feed("health-audit")``; those that come while it writes go together.

    A row that cannot be sent is logged with all its fields as an error: nobody's request fails for it.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._room = asyncio.Semaphore(MOST_WAITING)
        self._sending: asyncio.Task[None] | None = None
        self._repeated = Repetitions()

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
        async with self._room:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((row, done))
            if self._sending is None or self._sending.done():
                self._sending = asyncio.create_task(self._send_all())
            await done

    async def write_rarely(self, row: Entry) -> None:
        """Write what a client may repeat without a limit: once a minute for each address, key and action.

        The row then says how many there were since the last (``details.times``).
        """
        times = self._repeated.count((row.action, row.key_id, row.address), time.monotonic())
        if times:
            details = json.loads(row.details or "{}") | {"times": times}
            await self.write(msgspec.structs.replace(row, details=json.dumps(details)))

    async def close(self) -> None:
        """Wait for what is being sent."""
        if self._sending is not None:
            await asyncio.gather(self._sending, return_exceptions=True)

    async def _send_all(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
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
            await sender.send(batch(rows), timeout=self._patience)
        except Exception as error:
            for row in rows:
                log.error("an audit row could not be written (%s): %s", error, msgspec.json.encode(row).decode())


class Repetitions:
    """Counts what repeats, and says when to tell."""

    def __init__(self, interval: float = 60.0, most: int = 10_000) -> None:
        self._interval, self._most = interval, most
        self._seen: OrderedDict[Any, tuple[float, int]] = OrderedDict()

    def count(self, what: Any, now: float) -> int:
        """Return how often it happened since it was last told, if it is to be told now; else 0."""
        since, times = self._seen.get(what, (now - self._interval, 0))
        due = now - since >= self._interval
        self._seen[what] = (now, 0) if due else (since, times + 1)
        self._seen.move_to_end(what)
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return times + 1 if due else 0
