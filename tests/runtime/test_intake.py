"""The intake: an input that is lost is opened again, and not before what it delivered is settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import PrivateAttr

from penstock import Context, Input, Stream
from penstock.component import Reader
from penstock.delivery import Delivery
from penstock.errors import ConnectionLost, EndOfInput
from penstock.observe.metrics import StreamMetrics
from penstock.runtime import intake as module
from penstock.runtime.intake import Intake
from penstock.testing.contexts import lend_context


class Lossy(Input, type="test_lossy"):
    """Deliver one batch each time it is opened, and be lost then; the last time it ends."""

    opens: int
    _opened: list[int] = PrivateAttr(default_factory=list)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        self._opened.append(len(self._opened) + 1)
        yield _LossyReader(self._opened[-1], self.opens)


class _LossyReader:
    def __init__(self, number: int, last: int) -> None:
        self._number, self._last, self._is_read = number, last, False

    async def read(self) -> Delivery:
        if self._is_read:
            raise EndOfInput if self._number == self._last else ConnectionLost("the cable was pulled")
        self._is_read = True

        async def settle(error: Exception | None) -> None: ...

        return Delivery.settled_by(pa.record_batch({"n": [self._number]}), settle)


@asynccontextmanager
async def taking(
    tmp_path: Path, source: Lossy, accept: Callable[[Delivery], Any], attempts: int | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    retry = {"attempts": attempts, "initial": "1ms", "maximum": "2ms"}
    stream = Stream.model_validate({"input": source, "output": "drop", "retry": retry})
    intake = Intake(stream, asyncio.Event(), StreamMetrics("test_intake"), accept, waits=True)
    async with lend_context(tmp_path) as context, asyncio.timeout(10):
        task = asyncio.create_task(intake.run(context))
        try:
            yield task
        finally:
            task.cancel()


async def test_it_is_opened_again_only_once_all_is_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue delivers again what is on its way when it is opened too early."""
    taken: asyncio.Queue[Delivery] = asyncio.Queue()
    unsettled_at_pause: list[int] = []
    unsettled = 0

    async def accept(delivery: Delivery) -> None:
        nonlocal unsettled
        unsettled += 1
        await taken.put(delivery)

    async def pause(delay: float, stop: asyncio.Event) -> bool:
        unsettled_at_pause.append(unsettled)
        return False

    monkeypatch.setattr(module, "pause", pause)
    source = Lossy(opens=3)
    async with taking(tmp_path, source, accept) as task:
        for number in (1, 2, 3):
            delivery = await taken.get()
            await asyncio.sleep(0)
            assert source._opened == list(range(1, number + 1))
            unsettled -= 1
            await delivery.ack()
        await task
    assert unsettled_at_pause == [0, 0]


async def test_losses_with_a_delivery_between_them_are_not_counted_together(tmp_path: Path) -> None:
    """An input that is lost now and then for a year does not run out of attempts."""

    async def accept(delivery: Delivery) -> None:
        await delivery.ack()

    source = Lossy(opens=8)
    async with taking(tmp_path, source, accept, attempts=2) as task:
        await task
    assert len(source._opened) == 8
