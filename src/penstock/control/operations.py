"""Operations on streams that were asked for over HTTP, and the events that came of them; both bounded, in memory."""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal

import msgspec

from ..clock import Clock
from ..errors import PenstockError

OPERATION_TIMEOUT = 30.0
"""How long an operation may take until it is given up, in seconds."""
MAX_OPERATIONS = 1000
"""Operations that are remembered."""
MAX_EVENTS = 1000
"""Events that are remembered."""

OperationState = Literal["queued", "running", "succeeded", "failed", "cancelled", "timed_out"]


class Operation(msgspec.Struct, kw_only=True):
    """One operation and how far it is; times are in milliseconds since 1970."""

    id: str
    operation: str
    resource_type: str
    resource_id: str
    state: OperationState = "queued"
    progress: int = 0
    created_at_ms: int
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    correlation_id: str | None = None
    error: str | None = None
    result: dict[str, str] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in ("queued", "running")


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Something that was done to a stream or to the configuration."""

    occurred_at_ms: int
    event_type: str
    stream_id: str | None
    outcome: str
    message: str | None
    operation_id: str | None = None
    correlation_id: str | None = None


class Operations:
    """Runs operations, one at a time for each stream, and remembers them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: OrderedDict[str, Operation] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)
        self.events: deque[Event] = deque(maxlen=MAX_EVENTS)

    def __iter__(self) -> itertools.chain[Operation]:
        """Return the operations, the newest first."""
        return itertools.chain(reversed(self._known.values()))

    def get(self, id: str) -> Operation | None:
        """Return the operation of this id, if it is remembered."""
        return self._known.get(id)

    def open_for(self, stream: str) -> Operation | None:
        """Return the operation on a stream that has not ended."""
        return next((one for one in self if one.resource_id == stream and one.is_open), None)

    def now(self) -> int:
        """Return the time in milliseconds since 1970."""
        return int(self._clock.time() * 1000)

    def begin(
        self, operation: str, stream: str, correlation_id: str, work: Callable[[], Awaitable[dict[str, str]]]
    ) -> Operation:
        """Begin ``work`` on a stream, or return the same operation where that is under way already."""
        running = self.open_for(stream)
        if running is not None and running.operation == operation:
            return running
        one = Operation(
            id=f"op-{self.now()}-{next(self._numbers)}",
            operation=operation,
            resource_type="stream",
            resource_id=stream,
            created_at_ms=self.now(),
            correlation_id=correlation_id,
        )
        self._known[one.id] = one
        while len(self._known) > MAX_OPERATIONS:
            self._known.popitem(last=False)
        self._tasks[one.id] = task = asyncio.create_task(self._run(one, work))
        task.add_done_callback(lambda _: self._tasks.pop(one.id, None))
        return one

    async def _run(self, one: Operation, work: Callable[[], Awaitable[dict[str, str]]]) -> None:
        one.state, one.progress, one.started_at_ms = "running", 10, self.now()
        try:
            async with self._clock.timeout(OPERATION_TIMEOUT):
                one.result = await work()
            one.state = "succeeded"
        except TimeoutError:
            one.state, one.error = "timed_out", f"not done after {OPERATION_TIMEOUT:g} s; it goes on"
        except asyncio.CancelledError:
            one.state, one.error = "cancelled", "what was begun is not undone"
        except PenstockError as error:
            one.state, one.error = "failed", str(error)
        one.progress, one.finished_at_ms = 100, self.now()
        self.note("stream_operation", one.state, one.error, one.resource_id, one)

    def cancel(self, one: Operation) -> None:
        """Wait for an operation no longer; what it began is not undone."""
        if (task := self._tasks.get(one.id)) is not None:
            task.cancel()
            one.state = "cancelled"

    def note(
        self,
        event_type: str,
        outcome: str,
        message: str | None = None,
        stream: str | None = None,
        operation: Operation | None = None,
        correlation_id: str | None = None,
    ) -> None:
        """Remember an event."""
        self.events.append(
            Event(
                occurred_at_ms=self.now(),
                event_type=event_type,
                stream_id=stream,
                outcome=outcome,
                message=message,
                operation_id=operation.id if operation is not None else None,
                correlation_id=operation.correlation_id if operation is not None else correlation_id,
            )
        )

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
