"""The feed: a service's batch is settled exactly when its stream settles it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock.api import run
from penstock.component import Input
from penstock.context import Context
from penstock.errors import ConfigError, PermanentError, TransientError
from penstock.inputs.feed import Feed, feed
from penstock.outputs import memory
from penstock.stream import Stream
from penstock.testing.clock import jumping
from penstock.testing.contexts import lend_context
from penstock.testing.suites import InputSuite

ROWS = pa.RecordBatch.from_pydict({"n": [1, 2]})


async def test_sending_returns_once_the_batch_is_acked(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context, Feed(name="a").open(context) as reader:
        sending = asyncio.ensure_future(feed("a").send(ROWS))
        delivery = await reader.read()
        assert delivery.batch.equals(ROWS)
        assert not sending.done()
        await delivery.ack()
        await sending


async def test_what_is_refused_is_raised_to_the_sender(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context, Feed(name="a").open(context) as reader:
        sending = asyncio.ensure_future(feed("a").send(ROWS))
        await (await reader.read()).nack(PermanentError("no"))
        with pytest.raises(PermanentError, match="no"):
            await sending


@jumping
async def test_sending_waits_for_the_stream_and_gives_up_in_time() -> None:
    with pytest.raises(TransientError, match=r"feed 'nobody' did not take a batch within 0\.05 s"):
        await feed("nobody").send(ROWS, timeout=0.05)


@jumping
async def test_a_stream_that_stops_tells_those_who_wait(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context:
        async with Feed(name="a", capacity=1).open(context):
            waiting = [asyncio.ensure_future(feed("a").send(ROWS)) for _ in range(3)]
            await asyncio.sleep(0.01)
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, TransientError) for result in results)


@jumping
async def test_a_sender_that_gave_up_does_not_disturb_the_stream(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context, Feed(name="a").open(context) as reader:
        with pytest.raises(TransientError):
            await feed("a").send(ROWS, timeout=0.02)
        await (await reader.read()).ack()


async def test_two_streams_cannot_take_one_feed(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context, Feed(name="a").open(context):
        with pytest.raises(ConfigError, match="two streams take feed 'a'"):
            async with Feed(name="a").open(context):
                pass


async def test_a_batch_flows_through_a_stream() -> None:
    memory.clear("fed")
    stream = Stream(input=Input.parse({"type": "feed", "name": "f"}), output=memory.Memory(key="fed"))
    running = asyncio.ensure_future(run(stream))
    await feed("f").send(ROWS)
    assert memory.rows("fed") == [{"n": 1}, {"n": 2}]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class TestFeed(InputSuite):
    replayable = False
    checkpointed = False
    bounded = False
    limited = False

    @pytest.fixture
    def component(self) -> Input:
        return Input.parse({"type": "feed", "name": "suite"})

    def expected(self, component: Input) -> list[Any]:
        return [{"n": n} for n in range(12)]

    async def supply(self, component: Input, context: Context) -> None:
        sender = feed("suite")
        sending = [sender.send(pa.RecordBatch.from_pydict({"n": [n]})) for n in range(12)]
        await asyncio.gather(*sending, return_exceptions=True)
