"""Limit how many rows or bytes pass in a period of time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pydantic import ByteSize, Field, model_validator

from ..clock import Clock
from ..component import Process, Processor
from ..context import Context
from ..delivery import Batch
from ..duration import Duration


class RateLimit(Processor, type="rate_limit"):
    """Let only so many rows or bytes pass in a period; what comes faster waits, and so does the input.

    A batch passes as a whole, once the rows before it have had their time: the first one passes at once, and over any
    longer time the rate holds. Smaller batches pass more evenly. Nothing is dropped; the input is read no further than
    ``max_in_flight`` deliveries ahead.

    A stop lets pass what is in flight, at the same rate, for ``shutdown_timeout`` at most: what did not pass by then is
    read again at the next start. With several limits the slowest one counts. Each run of a stream begins anew.

    Example::

        type: rate_limit
        rows: 1000
        per: 1s
    """

    rows: int | None = Field(None, ge=1)
    """How many rows pass in a period."""
    bytes: ByteSize | None = Field(None, gt=0)
    """How many bytes pass in a period, as the rows have them in memory; also as `10MB`."""
    per: Duration = Field(1.0, gt=0)
    """The period."""

    @model_validator(mode="after")
    def _check(self) -> RateLimit:
        if self.rows is None and self.bytes is None:
            raise ValueError("expected `rows`, `bytes` or both")
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        """Begin a period."""
        yield _Limit(self, context.clock).process

    def row_wise(self) -> bool:
        """Tell that each row passes by itself: always."""
        return True


class _Limit:
    """What has passed so far, as the time until which it lasts."""

    def __init__(self, limit: RateLimit, clock: Clock) -> None:
        self._limit, self._clock = limit, clock
        self._free_at = clock.monotonic()

    async def process(self, batch: Batch) -> Sequence[Batch]:
        now = self._clock.monotonic()
        turn = max(self._free_at, now)
        self._free_at = turn + self._duration(batch)
        if turn > now:
            await self._clock.sleep(turn - now)
        return [batch] if batch.num_rows else []

    def _duration(self, batch: Batch) -> float:
        """Return for how many seconds a batch uses up the limit."""
        shares = [batch.num_rows / self._limit.rows] if self._limit.rows else []
        shares += [batch.nbytes / self._limit.bytes] if self._limit.bytes else []
        return float(max(shares) * self._limit.per)
