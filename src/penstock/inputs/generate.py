"""Generate rows from one payload: to try a pipeline out, and to measure it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BeforeValidator, Field, WithJsonSchema

from ..checkpoint import Checkpoint
from ..clock import Clock
from ..component import Input, Reader
from ..context import Context
from ..delivery import Delivery
from ..duration import Duration
from ..errors import EndOfInput
from ..literal import json_text
from ..metadata import Origin, payloads

SHORTEST_SLEEP = 0.001


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else json_text(value)


class Generate(Input, type="generate"):
    """Emit copies of one payload, at an interval or as fast as they are taken.

    The first batch comes at once, each further one after ``interval``. With ``count`` exactly that many rows
    come, the last batch being smaller if need be, and then the input ends. The position is the number of rows
    emitted, so a restart goes on counting where the last acked batch ended.

    Example::

        type: generate
        context: {sensor: temp_1, value: 42}
        interval: 1s
        batch_size: 10
        count: 100
        codec: json
    """

    context: Annotated[
        str,
        BeforeValidator(_text),
        WithJsonSchema({"type": ["string", "object", "array", "number", "boolean", "null"]}),
    ]
    """The payload: a text, or a mapping or list that becomes JSON text; it holds no `.inf` and no `.nan`."""
    interval: Duration = 1.0
    """The pause before each batch but the first; below one millisecond there is none."""
    count: int | None = Field(default=None, ge=0)
    """How many rows in all; without it the rows never end."""
    batch_size: int = Field(default=1, ge=1)
    """How many rows in a batch."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Build the batch once; every read lends the same one."""
        yield _Generator(self, await context.checkpoint(), context.clock)


class _Generator:
    def __init__(self, config: Generate, checkpoint: Checkpoint, clock: Clock) -> None:
        self._clock = clock
        self._checkpoint, self._count = checkpoint, config.count
        self._interval = config.interval if config.interval >= SHORTEST_SLEEP else 0
        self._emitted = checkpoint.position_as(int) or 0
        self._first = True
        value = pa.array([config.context.encode()], pa.binary())
        self._batch = payloads(value.take(pa.repeat(0, config.batch_size)))

    async def read(self) -> Delivery:
        rows = self._batch.num_rows
        if self._count is not None:
            rows = min(rows, self._count - self._emitted)
        if rows <= 0:
            raise EndOfInput
        if self._first:
            self._first = False
        else:
            await self._clock.sleep(self._interval)  # zero only lets others run
        batch = self._batch if rows == self._batch.num_rows else self._batch.slice(0, rows)
        origin = Origin("generate", offset=self._emitted)
        delivery = await self._checkpoint.deliver(batch, self._emitted + rows, origin)
        self._emitted += rows
        return delivery
