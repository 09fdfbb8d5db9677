"""The rate_limit processor: how much passes in a period."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.component import Input, Output, Processor
from penstock.errors import PenstockError
from penstock.observe.metrics import StreamMetrics
from penstock.outputs import memory
from penstock.processors.rate_limit import RateLimit
from penstock.runtime.flow import Flow
from penstock.stream import Pipeline, Stream
from penstock.testing.clock import FakeClock, jumping
from penstock.testing.contexts import lend_context
from penstock.testing.suites.processors import ProcessorSuite


class TestRows(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Processor.parse({"type": "rate_limit", "rows": 1_000_000, "per": "1s"})


async def times(tmp_path: Path, limit: RateLimit, rows: list[int]) -> list[float]:
    """Return when each of several batches has passed that come at once."""
    passed: list[float] = []
    async with lend_context(tmp_path, clock=FakeClock()) as context, limit.open(context) as process:

        async def push(count: int) -> None:
            call: Any = process
            await call(pa.record_batch({"n": pa.array(range(count), pa.int64())}))
            passed.append(round(asyncio.get_running_loop().time(), 6))

        await asyncio.gather(*map(push, rows))
    return passed


@jumping
async def test_each_batch_waits_until_those_before_it_have_had_their_time(tmp_path: Path) -> None:
    assert await times(tmp_path, RateLimit(rows=10, per="1s"), [10, 5, 20, 1]) == [0, 1, 1.5, 3.5]


@jumping
async def test_bytes_are_counted_as_they_are_in_memory(tmp_path: Path) -> None:
    assert await times(tmp_path, RateLimit(bytes=80, per="1s"), [10, 10, 10]) == [0, 1, 2]


@jumping
async def test_the_slowest_limit_counts(tmp_path: Path) -> None:
    assert await times(tmp_path, RateLimit(rows=10, bytes=8, per="1s"), [1, 2, 1]) == [0, 1, 3]


@jumping
async def test_an_hour_of_rows_takes_an_hour(tmp_path: Path) -> None:
    assert max(await times(tmp_path, RateLimit(rows=100, per="60s"), [10] * 601)) == 3600


@jumping
async def test_what_was_not_used_is_not_saved_up(tmp_path: Path) -> None:
    limit = RateLimit(rows=10, per="1s")
    async with lend_context(tmp_path, clock=FakeClock()) as context, limit.open(context) as process:
        call: Any = process
        batch = pa.record_batch({"n": range(10)})
        await call(batch)
        await asyncio.sleep(100)
        began = asyncio.get_running_loop().time()
        for _ in range(3):
            await call(batch)
        assert asyncio.get_running_loop().time() - began == 2


def flow(context: Any, stop: asyncio.Event, **options: Any) -> Flow:
    stream = Stream(
        input=Input.parse({"type": "generate", "context": '{"a": 1}', "interval": "0s", "codec": "json"}),
        # Several threads may decode what came second first, and so give it the first turn.
        pipeline=Pipeline(thread_num=1, processors=[RateLimit(rows=1, per="10s")]),
        output=Output.parse({"type": "memory", "key": "limited"}),
        max_in_flight=2,
        **options,
    )
    return Flow(stream, context, stop, StreamMetrics("limited", clock=context.clock))


@jumping
async def test_a_stop_lets_pass_what_is_in_flight_at_the_same_rate(tmp_path: Path) -> None:
    memory.clear("limited")
    stop = asyncio.Event()
    async with lend_context(tmp_path, clock=FakeClock()) as context:
        running = asyncio.ensure_future(flow(context, stop, shutdown_timeout="300s").run())
        await asyncio.sleep(35)
        written = len(memory.rows("limited"))
        assert written == 4, "one at once, and one every ten seconds"
        stop.set()
        await running
        assert asyncio.get_running_loop().time() < 100
        assert written < len(memory.rows("limited")) <= written + 5


@jumping
async def test_a_stop_does_not_wait_longer_than_its_timeout(tmp_path: Path) -> None:
    stop = asyncio.Event()
    async with lend_context(tmp_path, clock=FakeClock()) as context:
        running = asyncio.ensure_future(flow(context, stop, shutdown_timeout="3s").run())
        await asyncio.sleep(1)
        stop.set()
        with pytest.raises(PenstockError):
            await running
        assert asyncio.get_running_loop().time() < 6


@pytest.mark.parametrize("options", [{}, {"rows": 0}, {"bytes": 0}, {"rows": 1, "per": "0s"}])
def test_a_limit_of_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RateLimit(**options)
