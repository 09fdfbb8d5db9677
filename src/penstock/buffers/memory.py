"""Gather deliveries in memory until there are enough of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field, model_validator

from ..component import Buffer, Queue
from ..context import Context
from ..duration import Duration
from ._grouping import Grouping, Limits


class Memory(Buffer, type="memory"):
    """Merge small batches into large ones, by rows, batches or bytes, or when time is up.

    What is held when a limit is reached, or ``timeout`` after the first of it came, goes on as one batch, in the
    order in which it came; at the end the rest does. Nothing is acked before it is written downstream, so a crash
    loses nothing of what is held. While a full group waits to be taken, reading waits.

    Batches with different columns are merged where that changes no value: a missing column is null, a number
    becomes a wider number. Where it would change one, the batches before go on by themselves.

    Example::

        type: memory
        capacity: 8192
        timeout: 100ms
    """

    capacity: int | None = Field(None, gt=0)
    """How many rows make a group."""
    batches: int | None = Field(None, gt=0)
    """How many batches make a group."""
    bytes: int | None = Field(None, gt=0)
    """How many bytes in memory make a group."""
    timeout: Duration = Field(1.0, gt=0)
    """How long the first batch of a group waits for the others."""

    @model_validator(mode="after")
    def _needs_a_limit(self) -> Memory:
        if self.capacity is None and self.batches is None and self.bytes is None:
            raise ValueError("expected `capacity` (rows), `batches` or `bytes`: what makes a group")
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Queue]:
        """Yield an empty queue."""
        limits = Limits(self.capacity, self.batches, self.bytes)
        yield Grouping(limits, lambda now: now + self.timeout, context.clock)

    def most_held(self) -> int | None:
        """Return how many deliveries make a group if each has one row."""
        limits = [limit for limit in (self.capacity, self.batches) if limit is not None]
        return min(limits) if limits else None
