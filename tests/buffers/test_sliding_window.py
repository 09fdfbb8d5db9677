from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.buffers.sliding_window import SlidingWindow
from penstock.component import Buffer
from penstock.delivery import Delivery
from penstock.testing.clock import FakeClock, jumping, run_jumping
from penstock.testing.contexts import lend_context
from penstock.testing.suites import BufferSuite

from .queues import at, bounds, put, take, take_all, take_in_time, times

EVENT = {"time": "event", "timestamp_field": "at", "timestamp_unit": "s"}


class TestByTheClock(BufferSuite):
    bounded = False
    keeps_rows = False

    @pytest.fixture
    def component(self) -> Buffer:
        return Buffer.parse({"type": "sliding_window", "size": "40ms", "slide": "20ms"})


class TestByAColumn(BufferSuite):
    bounded = False
    keeps_rows = False

    @pytest.fixture
    def component(self) -> Buffer:
        options = {**EVENT, "timestamp_field": "id"}
        return Buffer.parse({"type": "sliding_window", "size": "6s", "slide": "3s", **options})


class TestWithoutOverlap(BufferSuite):
    bounded = False

    @pytest.fixture
    def component(self) -> Buffer:
        options = {**EVENT, "timestamp_field": "id"}
        return Buffer.parse({"type": "sliding_window", "size": "6s", "slide": "6s", **options})

    def _rows(self, deliveries: Sequence[Delivery]) -> list[Any]:
        return [
            {key: cell for key, cell in row.items() if not key.startswith("window_")}
            for delivery in deliveries
            for row in super(TestWithoutOverlap, self)._rows([delivery])
        ]


def windows_of(rows: list[int], size: int, slide: int) -> dict[tuple[int, int], list[int]]:
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for time in rows:
        for start in range(time // slide * slide, time - size, -slide):
            found[start, start + size].append(time)
    return found


@given(
    st.lists(st.lists(st.integers(-60, 60), min_size=1, max_size=12), max_size=6),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_each_row_is_in_every_window_its_time_lies_in(batches: list[list[int]], one: int, other: int) -> None:
    size, slide = max(one, other), min(one, other)
    window = SlidingWindow.model_validate(
        {"size": f"{size}s", "slide": f"{slide}s", "out_of_orderness": "200s", **EVENT}
    )

    async def main() -> dict[tuple[int, int], list[int]]:
        async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
            settled = await put(queue, *(at(*batch) for batch in batches))
            assert settled == []
            queue.end()
            found = {bounds(delivery): sorted(times(delivery)) for delivery in await take_all(queue)}
            assert settled == [None] * len(batches)
            return found

    expected = windows_of([time for batch in batches for time in batch], size, slide)
    assert run_jumping(main()) == {span: sorted(found) for span, found in expected.items()}


@jumping
async def test_windows_fire_as_the_watermark_passes_their_ends() -> None:
    window = SlidingWindow.model_validate({"size": "10s", "slide": "5s", **EVENT})
    async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
        settled = await put(queue, at(1, 7))
        fired = [await take(queue)]
        await put(queue, at(12))
        fired.append(await take(queue))
        assert [(bounds(delivery), times(delivery)) for delivery in fired] == [((-5, 5), [1]), ((0, 10), [1, 7])]
        for delivery in fired:
            await delivery.ack()
        assert settled == [], "the row of 7 s is in a window that is still open"
        queue.end()
        for delivery in await take_all(queue):
            assert bounds(delivery)[0] in (5, 10)
        assert settled == [None]


@jumping
async def test_a_row_is_late_for_the_windows_that_have_closed_only() -> None:
    window = SlidingWindow.model_validate({"size": "10s", "slide": "5s", "late": "route", **EVENT})
    async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
        await put(queue, at(12))
        await put(queue, at(8))
        refused = await take(queue)
        assert "late: window 1970-01-01 00:00:00.000000Z to 1970-01-01 00:00:10" in str(refused.error)
        assert times(refused) == [8]
        queue.end()
        assert [(bounds(each), times(each)) for each in await take_all(queue)] == [
            ((5, 15), [12, 8]),
            ((10, 20), [12]),
        ]


def test_by_the_clock_each_window_holds_what_arrived_in_it() -> None:
    window = SlidingWindow.model_validate({"size": "10s", "slide": "5s"})

    async def main() -> list[tuple[float, list[int]]]:
        async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:

            async def feed() -> None:
                for number in range(4):
                    await put(queue, at(number))
                    await asyncio.sleep(4)
                await asyncio.sleep(20)
                queue.end()

            return await take_in_time(queue, feed)

    # Arrivals at 0, 4, 8 and 12 s; windows end at 5, 10, 15 and 20 s.
    assert run_jumping(main()) == [(5, [0, 1]), (10, [0, 1, 2]), (15, [2, 3]), (20, [3])]


def test_by_the_clock_reading_waits_while_as_much_is_held_as_may_be() -> None:
    window = SlidingWindow.model_validate({"size": "10s", "slide": "5s", "max_rows": 4})

    async def main() -> float:
        async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
            loop = asyncio.get_running_loop()
            began = loop.time()
            taking = asyncio.create_task(queue.get())
            await put(queue, at(1, 2))
            waiting = asyncio.create_task(queue.put(Delivery(at(3))))
            await taking
            await waiting
            return loop.time() - began

    assert run_jumping(main()) == pytest.approx(5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size": "1s", "slide": "2s"}, "would be lost"),
        ({"size": "1d", "slide": "1s"}, "more than 1000 times"),
        ({"size": "1s", "slide": "1s", "late": "route"}, "needs `time: event`"),
        ({"size": "1s", "slide": "1s", "time": "event"}, "needs `timestamp_field`"),
        ({"size": "1s", "slide": "0.1us", **EVENT}, "less than 1us"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        SlidingWindow.model_validate(options)


def test_slices_share_the_memory_of_the_batch() -> None:
    """A row in sixty windows is held once."""
    window = SlidingWindow.model_validate({"size": "60s", "slide": "1s", **EVENT})
    batch = pa.record_batch({"at": pa.array(range(1000)), "payload": ["x" * 100] * 1000})
    before = pa.total_allocated_bytes()
    parts = window.assigner().divide(batch, batch.column("at").to_numpy() * 1_000_000, None, [])
    assert len(parts) == 1059
    assert pa.total_allocated_bytes() - before < batch.nbytes


class TestInBatches(BufferSuite):
    keeps_rows = False  # a row is in several windows
    bounded = False

    @pytest.fixture
    def component(self) -> Buffer:
        return Buffer.parse({"type": "sliding_window", "window_size": 3, "slide_size": 2, "interval": "1s"})


@pytest.mark.parametrize(
    ("size", "slide", "count", "windows"),
    [
        (3, 2, 5, [[0, 1, 2], [2, 3, 4]]),
        (3, 2, 6, [[0, 1, 2], [2, 3, 4], [4, 5]]),
        (3, 1, 4, [[0, 1, 2], [1, 2, 3]]),
        (2, 2, 5, [[0, 1], [2, 3], [4]]),
        (5, 1, 2, [[0, 1]]),
    ],
)
async def test_windows_of_batches_lose_no_remainder_and_keep_the_order(
    size: int, slide: int, count: int, windows: list[list[int]], tmp_path: Path
) -> None:
    buffer = Buffer.parse({"type": "sliding_window", "window_size": size, "slide_size": slide, "interval": "1s"})
    async with lend_context(tmp_path) as context, buffer.open(context) as queue:
        settled: list[int] = []

        async def fill() -> None:
            for n in range(count):

                async def settle(_: Exception | None, n: int = n) -> None:
                    settled.append(n)

                await queue.put(Delivery.settled_by(pa.record_batch({"n": [n]}), settle))
            queue.end()

        filling = asyncio.ensure_future(fill())
        found = await take_all(queue)
        await filling
    assert [delivery.batch.column("n").to_pylist() for delivery in found] == windows
    assert sorted(settled) == list(range(count))


def test_sizes_are_times_or_batches_and_not_half_of_each() -> None:
    for options in (
        {},
        {"size": "1m"},
        {"size": "1m", "slide": "1m", "window_size": 3, "slide_size": 1},
        {"window_size": 3},
        {"window_size": 3, "slide_size": 4},
        {"window_size": 3, "slide_size": 1, "time": "event", "timestamp_field": "at"},
        {"size": "1m", "slide": "1m", "interval": "1s"},
    ):
        with pytest.raises(ValidationError):
            Buffer.parse({"type": "sliding_window", **options})
