"""The intake: an input that is lost is opened again, and not before what it delivered is settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import PrivateAttr

from penstock import Context, Engine, Input, Output, Stream
from penstock.branch import Branch
from penstock.clock import Clock
from penstock.component import Reader, Writer
from penstock.delivery import Batch, Delivery
from penstock.errors import ConnectionLost, EndOfInput, PenstockError, PermanentError
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
    tmp_path: Path, source: Lossy, accept: Callable[[Delivery], Any], attempts: int | None = None, **lent: Any
) -> AsyncIterator[asyncio.Task[None]]:
    retry = {"attempts": attempts, "initial": "1ms", "maximum": "2ms"}
    stream = Stream.model_validate({"input": source, "output": "drop", "retry": retry})
    intake = Intake(stream, Branch(source), asyncio.Event(), StreamMetrics("test_intake"), accept, waits=True)
    async with lend_context(tmp_path, **lent) as context, asyncio.timeout(60):
        task = asyncio.create_task(intake.run(context))
        try:
            yield task
        finally:
            task.cancel()


async def test_it_is_opened_again_only_once_all_is_settled(tmp_path: Path) -> None:
    """A queue delivers again what is on its way when it is opened too early."""
    taken: asyncio.Queue[Delivery] = asyncio.Queue()
    unsettled_at_pause: list[int] = []
    unsettled = 0

    async def accept(delivery: Delivery) -> None:
        nonlocal unsettled
        unsettled += 1
        await taken.put(delivery)

    class Noting(Clock):
        async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
            unsettled_at_pause.append(unsettled)
            return False

    source = Lossy(opens=3)
    async with taking(tmp_path, source, accept, clock=Noting()) as task:
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


class Consumer:
    """One connection to a broker, to which nothing can be committed once it is closed."""

    def __init__(self) -> None:
        self.is_open, self.committed = True, 0

    async def commit(self, position: Any) -> None:
        if not self.is_open:
            raise RuntimeError("the consumer is closed")
        self.committed = position


class Broker(Input, type="test_intake_broker"):
    """Deliver some numbers by way of a consumer, and then end or wait."""

    count: int = 5
    ends: bool = True
    _consumer: Consumer = PrivateAttr(default_factory=Consumer)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        checkpoint = await context.checkpoint("0", commit=self._consumer.commit)

        class Numbers:
            taken = 0

            async def read(this) -> Delivery:
                if this.taken == self.count:
                    if self.ends:
                        raise EndOfInput
                    await asyncio.get_running_loop().create_future()
                this.taken += 1
                return await checkpoint.deliver(pa.record_batch({"n": [this.taken]}), this.taken)

        try:
            yield Numbers()
        finally:
            self._consumer.is_open = False


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pipeline": [{"type": "batch", "count": 100}]},
        {"buffer": {"type": "memory", "capacity": 100}},
        {"durability": {}},
    ],
    ids=["plain", "batch", "buffer", "log"],
)
@pytest.mark.parametrize("ends", [True, False])
async def test_what_is_written_last_is_committed_before_the_input_is_closed(
    options: dict[str, Any], ends: bool, tmp_path: Path
) -> None:
    broker, stop = Broker(ends=ends), asyncio.Event()
    engine = Engine([Stream.model_validate({"input": broker, "output": "drop", **options})], data=tmp_path)
    running = asyncio.ensure_future(engine.run(stop))
    async with asyncio.timeout(60):
        while not ends and (not engine.supervised or engine.supervised[0].metrics.rows_in < 5):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        if not ends:
            stop.set()
        await running
    assert broker._consumer.committed == 5


async def test_what_was_acked_before_a_failure_is_committed_before_the_input_is_closed(tmp_path: Path) -> None:
    broker = Broker(ends=False)
    options = {"output": {"type": "test_intake_until", "last": 3}, "restart": {"attempts": 0}}
    with pytest.raises(PenstockError, match="no more"):
        await Engine([Stream.model_validate({"input": broker, **options})], data=tmp_path).run()
    assert broker._consumer.committed == 3


async def test_a_broker_that_takes_no_last_commit_holds_up_no_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def commit(position: Any) -> None:
        await asyncio.get_running_loop().create_future()

    broker = Broker()
    monkeypatch.setattr(broker._consumer, "commit", commit)
    monkeypatch.setattr(module, "COMMIT_TIMEOUT", 0.05)
    async with asyncio.timeout(60):
        await Engine([Stream.model_validate({"input": broker, "output": "drop"})], data=tmp_path).run()
    assert "the last position could not be committed" in caplog.text


class Until(Output, type="test_intake_until"):
    """Write the numbers up to the last."""

    last: int

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        class Writing:
            async def write(this, batches: Sequence[Batch]) -> None:
                if any(batch["n"][-1].as_py() > self.last for batch in batches):
                    raise PermanentError("no more")

        yield Writing()
