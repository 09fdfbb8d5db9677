"""A bounded inbox for rows that others push, which is read as an input and settles each sender."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from . import metadata
from .delivery import Batch, Delivery, Settle
from .errors import PermanentError, TransientError
from .metadata import Origin

MAX_ROWS = 8192
MAX_BYTES = 8 << 20
"""How much of several senders goes into one delivery; what one has sent is never divided."""

Rows: TypeAlias = list[bytes] | Batch
"""Payloads for a codec, which are merged with those of others, or a batch, which is a delivery of its own."""

log = logging.getLogger("penstock")


class NotInTime(TransientError):
    """The rows were not settled in time; whether they will be is unknown."""


class _Sent:
    """Rows that wait to be settled, and who waits for that."""

    __slots__ = ("ext", "is_alone", "outcome", "rows", "size")

    def __init__(
        self, rows: Rows, ext: Mapping[str, str], size: int, outcome: asyncio.Future[Exception | None] | None
    ) -> None:
        self.rows, self.ext, self.size, self.outcome = rows, ext, size, outcome
        self.is_alone = not isinstance(rows, list)

    @property
    def count(self) -> int:
        return len(self.rows) if isinstance(self.rows, list) else int(self.rows.num_rows)

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more: it was not in time, or the sender has gone."""
        return self.outcome is not None and self.outcome.done()

    def conclude(self, error: Exception | None) -> None:
        if self.outcome is not None and not self.outcome.done():
            self.outcome.set_result(error)


class Inlet:
    """The Reader of an input to which rows are pushed.

    Those who push call ``put``, which returns once the rows are settled, or ``offer``, if there is nobody to be told.
    What waits at the same moment is delivered together. If such a delivery is refused for ever, each sender's rows are
    delivered again by themselves, so that only the one is told whose rows are wrong.
    """

    def __init__(self, source: str, *, capacity: int, drops_abandoned: bool = True) -> None:
        """``source`` becomes ``__meta_source``; ``capacity`` is how many senders' rows wait to be read at most.

        With ``drops_abandoned`` rows are not delivered whose sender has given up before they were read.
        """
        self._source, self._capacity, self._drops_abandoned = source, capacity, drops_abandoned
        self._waiting: deque[_Sent] = deque()
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._closed: Exception | None = None

    async def put(self, rows: Rows, ext: Mapping[str, str], *, size: int = 0, timeout: float | None = None) -> None:
        """Hand over rows of ``size`` bytes and return once they are settled; waits while too many wait already.

        Raises what they were refused with, NotInTime after ``timeout`` seconds, after ``close`` what that was given.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Exception | None] = loop.create_future()
        sent = _Sent(rows, ext, size, outcome)
        limit = loop.call_later(timeout, self._expire, sent, timeout) if timeout is not None else None
        try:
            while len(self._waiting) >= self._capacity and self._closed is None and not sent.is_over:
                self._room.clear()
                await self._room.wait()
            self._enqueue(sent)
            error = await outcome
        finally:
            if limit is not None:
                limit.cancel()
        if error is not None:
            raise error

    def _expire(self, sent: _Sent, timeout: float) -> None:
        sent.conclude(NotInTime(f"{self._source}: not settled within {timeout:g} s"))
        self._room.set()  # it may wait for that

    def offer(self, rows: Rows, ext: Mapping[str, str], *, size: int = 0) -> bool:
        """Take rows of ``size`` bytes whose sender is not told; return False, taking nothing, if it is full."""
        if len(self._waiting) >= self._capacity or self._closed is not None:
            return False
        self._enqueue(_Sent(rows, ext, size, None))
        return True

    def _enqueue(self, sent: _Sent) -> None:
        if self._closed is not None:
            sent.conclude(self._closed)
        if sent.is_over:
            return
        self._waiting.append(sent)
        self._arrived.set()

    async def read(self) -> Delivery:
        """Wait for rows and deliver what waits, as far as one delivery may hold it."""
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            taken = self._take()
            self._room.set()
            if taken:
                return Delivery.settled_by(_batch(taken), self._settling(taken), Origin(self._source, ext=_ext(taken)))

    def _take(self) -> list[_Sent]:
        taken: list[_Sent] = []
        rows = size = 0
        while self._waiting:
            sent = self._waiting[0]
            if sent.is_over and self._drops_abandoned:
                self._waiting.popleft()
                continue
            if sent.is_alone and not taken:
                return [self._waiting.popleft()]
            rows, size = rows + sent.count, size + sent.size
            if taken and (sent.is_alone or rows > MAX_ROWS or size > MAX_BYTES):
                break
            taken.append(self._waiting.popleft())
        return taken

    def _settling(self, taken: Sequence[_Sent]) -> Settle:
        async def settle(error: Exception | None) -> None:
            if isinstance(error, PermanentError) and len(taken) > 1 and self._closed is None:
                self._deliver_alone(taken)
                return
            if error is not None and not isinstance(error, PermanentError):
                log.warning("%s: the rows of %d senders are not durable: %s", self._source, len(taken), error)
            for sent in taken:
                sent.conclude(error)

        return settle

    def _deliver_alone(self, taken: Sequence[_Sent]) -> None:
        for sent in taken:
            sent.is_alone = True
        self._waiting.extendleft(reversed(taken))
        self._arrived.set()

    def close(self, error: Exception | None = None) -> None:
        """Take nothing more, and tell those whose rows nobody will read; by default that it is closing."""
        self._closed = error or TransientError(f"{self._source}: closing")
        while self._waiting:
            self._waiting.popleft().conclude(self._closed)
        self._room.set()


def _batch(taken: Sequence[_Sent]) -> Batch:
    first = taken[0].rows
    if not isinstance(first, list):
        return first
    many = first if len(taken) == 1 else [one for sent in taken if isinstance(sent.rows, list) for one in sent.rows]
    return metadata.payloads(many)


def _ext(taken: Sequence[_Sent]) -> Mapping[str, str] | list[Mapping[str, str]]:
    first = taken[0].ext
    if len(taken) == 1 or all(sent.ext == first for sent in taken):
        return first
    return [sent.ext for sent in taken for _ in range(sent.count)]
