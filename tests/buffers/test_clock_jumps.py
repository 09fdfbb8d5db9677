"""Clocks that are put forward or back, and work that takes long: neither closes a window, nor loses a row."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock.buffers._aggregation import Aggregation
from penstock.buffers._joined_side import JoinedSide
from penstock.buffers._spilling import Spill
from penstock.checkpoint import Checkpoint
from penstock.component import Buffer
from penstock.delivery import Batch
from penstock.errors import EndOfInput
from penstock.testing.clock import FakeClock, jumping
from penstock.testing.contexts import lend_context

START = 1_700_000_000_000
DAY = 86_400.0
EVENT = {"time": "event", "timestamp_field": "at", "idle_timeout": "10s"}
SUMS = {"query": "SELECT k, count(*) AS n, sum(v) AS s FROM flow GROUP BY k"}
SIZES: dict[str, dict[str, Any]] = {
    "tumbling": {"type": "tumbling_window", "size": "10s"},
    "sliding": {"type": "sliding_window", "size": "20s", "slide": "10s"},
    "session": {"type": "session_window", "gap": "3s"},
}
JOIN = {"left": "a", "right": "b", "key": "k", "timestamp_field": "at", "idle_timeout": "10s"}
KINDS: dict[str, dict[str, Any]] = {
    **SIZES,
    **{f"{name} by event": {**options, **EVENT} for name, options in SIZES.items()},
    **{f"{name} aggregated": {**options, **EVENT, **SUMS} for name, options in SIZES.items()},
    "interval join": {"type": "interval_join", **JOIN, "before": "4s", "after": "4s", "how": "full"},
    "temporal join": {"type": "temporal_join", **JOIN, "how": "left"},
}


class MovedClock(FakeClock):
    """A clock that is put forward or back, and beside which work takes time."""

    def __init__(self) -> None:
        super().__init__()
        self.put_by = self.worked = 0.0

    def time(self) -> float:
        return super().time() + self.worked + self.put_by

    def monotonic(self) -> float:
        return super().monotonic() + self.worked


def rows(source: str, *seconds: float) -> Batch:
    return pa.record_batch(
        {
            "k": ["k"] * len(seconds),
            "at": [START + round(second * 1000) for second in seconds],
            "v" if source == "a" else "w": [round(second * 10) for second in seconds],
            "__meta_source": [source] * len(seconds),
        }
    )


async def run_stream(kind: str, folder: Path, jump: float) -> list[Any]:
    """Return what goes out, in which order and at which second, while the clock jumps between rows."""
    clock, found = MovedClock(), []
    async with lend_context(folder, clock=clock) as context, Buffer.parse(KINDS[kind]).open(context) as queue:

        async def feed() -> None:
            a, b = Checkpoint("a"), Checkpoint("b")
            for number in range(30):
                checkpoint = b if number % 5 == 4 else a
                source = "b" if number % 5 == 4 else "a"
                await queue.put(await checkpoint.deliver(rows(source, number + number // 10 * 6), number + 1))
                await asyncio.sleep(7 if number % 10 == 9 else 1)
                clock.put_by += jump * (1 if number % 10 == 3 else -1 if number % 10 == 8 else 0)
            queue.end()

        feeding = asyncio.ensure_future(feed())
        began = clock.monotonic()
        while True:
            try:
                delivery = await queue.get()
            except EndOfInput:
                break
            assert delivery.error is None
            if delivery.batch.num_rows:
                found.append((round(clock.monotonic() - began), delivery.batch.to_pylist()))
            await delivery.ack()
        await feeding
        assert getattr(queue, "late_rows", 0) == 0
    return found


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_that_is_put_forward_or_back_changes_nothing(kind: str, jump: float, tmp_path: Path) -> None:
    run = jumping(run_stream)
    steady = run(kind, tmp_path / "steady", 0)
    assert len(steady) > 1
    assert run(kind, tmp_path / "jumping", jump) == steady


SLOW = {
    "tumbling by event": (Spill, "write"),
    "sliding by event": (Spill, "write"),
    "session by event": (Spill, "write"),
    "tumbling aggregated": (Aggregation, "begin"),
    "sliding aggregated": (Aggregation, "begin"),
    "session aggregated": (Aggregation, "begin"),
    "interval join": (JoinedSide, "add"),
    "temporal join": (JoinedSide, "add"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_source_is_not_idle_while_the_rows_of_another_are_worked_on(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it sends meanwhile waits: once it is read, no window that it belongs to has closed."""
    clock = MovedClock()
    owner, name = SLOW[kind]
    work = getattr(owner, name)

    def work_for_a_minute(*arguments: Any, **options: Any) -> Any:
        clock.worked += 60
        return work(*arguments, **options)

    monkeypatch.setattr(owner, name, work_for_a_minute)
    options = {"max_rows": 2} if "by event" in kind else {}

    @jumping
    async def main() -> None:
        component = Buffer.parse({**KINDS[kind], **options})
        async with lend_context(tmp_path, clock=clock) as context, component.open(context) as queue:
            a, b = Checkpoint("a"), Checkpoint("b")
            getting = asyncio.ensure_future(queue.get())
            await queue.put(await b.deliver(rows("b", 1), 1))
            await queue.put(await a.deliver(rows("a", 2, 2.5), 1))
            await queue.put(await a.deliver(rows("a", 50, 51), 2))
            await queue.put(await b.deliver(rows("b", 3), 2))
            assert queue.late_rows == 0  # type: ignore[attr-defined]
            getting.cancel()

    main()


def test_a_source_that_sends_nothing_is_idle_though_another_always_has_more(tmp_path: Path) -> None:
    """Short work is not excused, though there is no end of it."""
    clock = MovedClock()

    @jumping
    async def main() -> None:
        component = Buffer.parse(KINDS["tumbling aggregated"])
        async with lend_context(tmp_path, clock=clock) as context, component.open(context) as queue:
            a, b = Checkpoint("a"), Checkpoint("b")
            fired = asyncio.Event()

            async def take() -> None:
                while True:
                    if (await queue.get()).batch.num_rows:
                        fired.set()

            taking = asyncio.ensure_future(take())
            await queue.put(await b.deliver(rows("b", 1), 1))
            for number in range(1, 60):
                clock.worked += 0.5
                await queue.put(await a.deliver(rows("a", number), number))
            await asyncio.wait_for(fired.wait(), 5)
            taking.cancel()

    main()
