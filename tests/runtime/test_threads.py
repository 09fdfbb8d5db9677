"""Threads: results are handed over early, and a call that hangs keeps none of the others waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from penstock.errors import PenstockError
from penstock.runtime import threads as module
from penstock.runtime.threads import MAX_STUCK_CALLS, OwnThread, Threads, Workers


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Holds calls back until the test is over, or opens it."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("count", [1, 2])
async def test_a_short_call_waited_for_a_long_one(count: int, gate: threading.Event) -> None:
    threads = Threads(count, "test")
    for _ in range(10):
        short, *long = threads.run(lambda: 1), *(threads.run(gate.wait) for _ in range(count))
        async with asyncio.timeout(60):
            assert await short == 1
        gate.set()
        await asyncio.gather(*long)
        gate.clear()
    threads.shutdown()


async def test_the_result_of_a_call_that_took_long_does_not_wait_for_others(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HAND_OVER_INTERVAL", 3600)
    threads = Threads(1, "test")
    gone = threading.Event()
    first, _ = threads.run(gone.wait, 0.01), threads.run(gate.wait)
    async with asyncio.timeout(60):
        assert not await first
    threads.shutdown()


async def test_what_is_finished_at_shutdown_is_handed_over(gate: threading.Event) -> None:
    threads = Threads(1, "test")
    calls = [threads.run(lambda number=number: number) for number in range(100)]
    last = threads.run(gate.wait)
    threads.shutdown()
    async with asyncio.timeout(60):
        assert await asyncio.gather(*calls) == list(range(100))
    assert not last.done()


async def test_errors_reach_the_caller_and_cancelled_calls_do_not_run() -> None:
    threads, ran = Threads(1, "test"), threading.Event()
    started, go = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        go.wait()

    first, second, third = threads.run(wait), threads.run(ran.set), threads.run(int, "no number")
    await asyncio.to_thread(started.wait)
    second.cancel()
    go.set()
    await first
    with pytest.raises(ValueError, match="no number"):
        await third
    assert not ran.is_set()
    threads.shutdown()


async def test_calls_of_an_own_thread_come_one_after_the_other() -> None:
    names = []
    async with OwnThread("own") as thread:
        running = [thread.start(lambda number=number: names.append(number)) for number in range(20)]
        assert (await thread.run(threading.current_thread)).name.startswith("own")
    await asyncio.gather(*running)
    assert names == list(range(20))


async def test_a_call_that_hangs_is_given_up_and_its_thread_replaced(gate: threading.Event) -> None:
    workers = Workers("test", timeout=0.01)
    for stuck in range(MAX_STUCK_CALLS):
        with pytest.raises(TimeoutError):
            await workers.call(gate.wait)
        assert workers.stuck == stuck + 1
    with pytest.raises(PenstockError, match="still hold their threads"):
        await workers.call(lambda: 1)
    gate.set()
    async with asyncio.timeout(60):
        while workers.stuck:  # noqa: ASYNC110 - the count has no event
            await asyncio.sleep(0.001)
    assert await workers.call(lambda: 1) == 1
    workers.close()
