"""Count down: the smallest input that resumes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pyarrow as pa
from pydantic import Field

from penstock.checkpoint import Checkpoint
from penstock.component import Input, Reader
from penstock.context import Context
from penstock.delivery import Delivery
from penstock.errors import EndOfInput
from penstock.metadata import Origin


class Countdown(Input, type="countdown"):
    """Count down to one, one row a delivery, and end.

    The position is the last number delivered, so a restart goes on below it.

    Example::

        type: countdown
        start: 10
    """

    start: int = Field(default=10, ge=0)
    """The first number."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Go on below the last number that was acked."""
        yield _CountdownReader(self.start, await context.checkpoint())


class _CountdownReader:
    def __init__(self, start: int, checkpoint: Checkpoint) -> None:
        self._last: int = start + 1 if checkpoint.position is None else checkpoint.position
        self._checkpoint = checkpoint

    async def read(self) -> Delivery:
        number = self._last - 1
        if number < 1:
            raise EndOfInput
        batch = pa.record_batch({"number": pa.array([number], pa.int64()), "name": pa.array([f"T-{number}"])})
        delivery = await self._checkpoint.deliver(batch, number, Origin("countdown"))
        # only now, so that a cancelled read delivers the same number again
        self._last = number
        return delivery
