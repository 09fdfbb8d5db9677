"""Server-sent events: the latest state of some topics, to as many clients as are allowed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from litestar.response import Stream

from ...clock import Clock
from ...errors import ConnectionLost, TransientError
from ...identifiers import new_id
from .errors import ApiError

LOOK_INTERVAL = 1.0
"""Seconds from one look at the state to the next, while anybody wants to know."""
HEARTBEAT_INTERVAL = 15.0
"""Seconds of silence after which a client is told that the connection lives."""
MAX_CLIENTS = 64
MAX_AGE = 900.0
"""Seconds after which a connection ends: the browser opens it again, and shows again that it may."""
RETRY_INTERVAL_MS = 2000
"""How long a browser waits before it opens a connection again."""

_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
_EVENT_ID = re.compile(r"([0-9a-f-]{36})\.(\d{1,15})", re.ASCII)


class Event(NamedTuple):
    """The state of one topic."""

    number: int
    topic: str
    data: bytes


class Client:
    """What one client is still to be told: of each topic the latest state, so a slow one costs no more memory."""

    def __init__(self) -> None:
        self.pending: dict[str, Event] = {}
        self.woken = asyncio.Event()

    def tell(self, event: Event) -> None:
        """Replace what was to be told of the topic."""
        self.pending[event.topic] = event
        self.woken.set()

    def take(self) -> list[Event]:
        """Return what is to be told now, the oldest first."""
        taken, self.pending = self.pending, {}
        self.woken.clear()
        return sorted(taken.values())


class LiveState:
    """Look at the state of topics while there are clients, and tell them what has changed, until ``stop`` is set.

    ``look`` returns the state of each topic as one line of JSON, at once or once it is awaited. A client that comes
    back says by Last-Event-ID what it knows, and is told what has changed since.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[], Mapping[str, bytes] | Awaitable[Mapping[str, bytes]]],
        stop: asyncio.Event,
        clock: Clock | None = None,
        interval: float = LOOK_INTERVAL,
    ) -> None:
        self._name, self._look, self._stop, self._clock = name, look, stop, clock or Clock()
        self._interval = interval
        self._latest: dict[str, Event] = {}
        self._clients: set[Client] = set()
        self._looking: asyncio.Task[None] | None = None
        self._run, self._number = new_id(), 0

    def __len__(self) -> int:
        return len(self._clients)

    def response(self, last_event_id: str = "") -> Stream:
        """Return the answer to a client; raises ApiError if there are too many, or all is about to end."""
        if len(self._clients) >= MAX_CLIENTS or self._stop.is_set():
            raise ApiError(503, "unavailable", "too many are watching; try again", headers={"retry-after": "5"})
        return Stream(self.events(last_event_id), media_type="text/event-stream", headers=_HEADERS)

    async def events(self, last_event_id: str = "") -> AsyncIterator[bytes]:
        """Yield events as they are written to the client."""
        client, began = Client(), self._clock.monotonic()
        self._clients.add(client)
        try:
            yield b"retry: %d\n\n" % RETRY_INTERVAL_MS
            self._catch_up(client, last_event_id)
            while not self._stop.is_set() and self._clock.monotonic() - began < MAX_AGE:
                with suppress(TimeoutError):
                    async with self._clock.timeout(HEARTBEAT_INTERVAL):
                        await client.woken.wait()
                yield b"".join(self._encode(event) for event in client.take()) or b": alive\n\n"
        finally:
            self._clients.discard(client)

    def _catch_up(self, client: Client, last_event_id: str) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._watch())
        known = _EVENT_ID.fullmatch(last_event_id)
        after = int(known[2]) if known and known[1] == self._run else 0
        for event in self._latest.values():
            if event.number > after:
                client.tell(event)

    async def _watch(self) -> None:
        """Look until nobody is there any more, or all is to end."""
        while self._clients and not self._stop.is_set():
            with suppress(TransientError, ConnectionLost):  # what is away is looked at again
                await self._note()
            with suppress(TimeoutError):
                async with self._clock.timeout(self._interval):
                    await self._stop.wait()
        for client in self._clients:
            client.woken.set()

    async def _note(self) -> None:
        found = self._look()
        for topic, data in (found if isinstance(found, Mapping) else await found).items():
            known = self._latest.get(topic)
            if known is None or known.data != data:
                self._number += 1
                event = self._latest[topic] = Event(self._number, topic, data)
                for client in self._clients:
                    client.tell(event)

    def _encode(self, event: Event) -> bytes:
        head = f"id: {self._run}.{event.number}\nevent: {self._name}\ndata: ".encode()
        return head + event.data.replace(b"\n", b"\ndata: ") + b"\n\n"
