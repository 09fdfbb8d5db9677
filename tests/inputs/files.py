"""What the tests of the file input share: reading a configuration to the end, with or without acks."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.component import Input, Reader
from penstock.delivery import Delivery
from penstock.errors import EndOfInput
from penstock.metadata import VALUE, attach, without_metadata
from penstock.state.memory import MemoryStore
from penstock.testing.clock import FakeClock, JumpingLoop
from penstock.testing.contexts import lend_context

SOON = 60.0


def rows_of(config: Input, delivery: Delivery) -> list[Any]:
    """The rows of a delivery as a stream would decode them; what failed is a pair of 'failed' and the reason."""
    batch, codec = delivery.batch, config.payload_codec()
    if delivery.error is not None:
        return [("failed", str(delivery.error))]
    decode = delivery.decoder or (codec.decoder() if codec is not None else None)
    if decode is not None:
        batch = decode(batch.column(VALUE))
    rows = without_metadata(batch).to_pylist()
    return [row.get(VALUE, row) for row in rows]


@dataclass
class Reading:
    """An input, and where its positions are kept over several openings."""

    options: dict[str, Any]
    directory: Path
    store: MemoryStore = field(default_factory=MemoryStore)

    @asynccontextmanager
    async def opened(self, **context: Any) -> AsyncIterator[tuple[Input, Reader]]:
        """Open the input."""
        config = Input.parse({"type": "file", **self.options})
        # Where the time jumps, files are as old as the system says at first.
        is_jumping = isinstance(asyncio.get_running_loop(), JumpingLoop)
        context |= {"clock": FakeClock(time.time())} if is_jumping else {}
        async with lend_context(self.directory / "state", self.store, **context) as lent, config.open(lent) as reader:
            yield config, reader

    async def all(self, *, ack: bool = True, most: int | None = None, **context: Any) -> list[Any]:
        """All rows, or those of the first ``most`` deliveries."""
        rows: list[Any] = []
        async with self.opened(**context) as (config, reader):
            for _ in range(1 << 30 if most is None else most):
                try:
                    delivery = await asyncio.wait_for(reader.read(), SOON)
                except EndOfInput:
                    break
                rows += rows_of(config, delivery)
                if ack:
                    await delivery.ack()
        return rows

    async def killed(self, *, most: int, **context: Any) -> list[Any]:
        """The rows of the first deliveries, acked, though closing the input saves nothing any more."""
        rows: list[Any] = []
        async with self.opened(**context) as (config, reader):
            with suppress(EndOfInput):
                for _ in range(most):
                    delivery = await asyncio.wait_for(reader.read(), SOON)
                    rows += rows_of(config, delivery)
                    await delivery.ack()
            saved = copy.deepcopy(vars(self.store))
        vars(self.store).update(saved)
        return rows

    async def origins(self) -> list[tuple[dict[str, str], int]]:
        """What is told of each row: the extension of its metadata, and its offset."""
        told: list[tuple[dict[str, str], int]] = []
        async with self.opened() as (_, reader):
            while True:
                try:
                    delivery = await asyncio.wait_for(reader.read(), SOON)
                except EndOfInput:
                    return told
                batch = delivery.batch
                if delivery.decoder is not None:
                    batch = delivery.decoder(batch.column(VALUE))
                batch = attach(batch, delivery.origin)
                exts = [dict(ext) for ext in batch.column("__meta_ext").to_pylist()]
                told += zip(exts, batch.column("__meta_offset").to_pylist(), strict=True)
                await delivery.ack()


class Follower:
    """Reads a followed input beside the test, and acks what it reads."""

    def __init__(self, config: Input, reader: Reader) -> None:
        self._config, self._reader = config, reader
        self.rows: list[Any] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            delivery = await self._reader.read()
            self.rows += rows_of(self._config, delivery)
            await delivery.ack()

    async def until(self, expected: list[Any]) -> None:
        """Wait until exactly these rows were read; raises AssertionError if others come, or not soon."""
        await self.when(lambda: len(self.rows) >= len(expected))
        assert self.rows == expected

    async def when(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        for _ in range(int(SOON / 0.01)):
            if condition():
                return
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.01)
        raise AssertionError(f"not soon enough; read so far: {self.rows}")

    async def stop(self) -> None:
        """Read no more."""
        self._task.cancel()
        await asyncio.wait({self._task})


@asynccontextmanager
async def followed(reading: Reading, **context: Any) -> AsyncIterator[Follower]:
    """Follow an input while the block runs."""
    async with reading.opened(**context) as (config, reader):
        follower = Follower(config, reader)
        try:
            yield follower
        finally:
            await follower.stop()
