"""The clock of tests: an hour passes at once, in order, and never while a thread works."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from penstock.testing.clock import EPOCH, FakeClock, JumpingLoop, run_jumping


def test_hours_pass_at_once_and_in_order() -> None:
    clock, seen = FakeClock(), []

    async def wait(seconds: float) -> None:
        await clock.sleep(seconds)
        seen.append(clock.monotonic())

    async def main() -> None:
        await asyncio.gather(wait(7200), wait(60), wait(3600))
        with pytest.raises(TimeoutError):
            async with clock.timeout(86_400):
                await asyncio.Event().wait()

    began = time.monotonic()
    run_jumping(main())
    assert seen == [60, 3600, 7200]
    assert time.monotonic() - began < 60


def test_the_wall_clock_moves_with_the_loop() -> None:
    clock = FakeClock()

    async def main() -> float:
        await clock.sleep(90)
        return clock.time()

    assert run_jumping(main()) == EPOCH + 90


def test_no_time_passes_while_a_thread_works() -> None:
    async def main() -> tuple[str, float]:
        timer = asyncio.ensure_future(asyncio.sleep(1000, "the timer"))
        worker = asyncio.ensure_future(asyncio.to_thread(time.sleep, 0.05))
        done, _ = await asyncio.wait({timer, worker}, return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()
        return "worker" if worker in done else "timer", asyncio.get_running_loop().time()

    assert run_jumping(main()) == ("worker", 0.0)


def test_no_time_passes_while_a_cancelled_job_still_works() -> None:
    working, ended = threading.Event(), threading.Event()

    def work() -> None:
        working.set()
        time.sleep(0.1)
        ended.set()

    async def main() -> bool:
        job = asyncio.ensure_future(asyncio.to_thread(work))
        await asyncio.to_thread(working.wait)
        job.cancel()
        await asyncio.sleep(1000)
        return ended.is_set()

    assert run_jumping(main())


def test_a_socket_that_is_ready_comes_before_a_timer() -> None:
    async def main() -> bytes:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read(5))
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello")
            found = await reader.read(5)
            writer.close()
            return found

    assert run_jumping(main()) == b"hello"


def test_a_loop_begins_at_zero() -> None:
    loop = JumpingLoop()
    assert loop.time() == 0.0
    loop.close()
