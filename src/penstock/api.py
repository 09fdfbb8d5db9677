"""Run streams from Python: in a coroutine, or plainly in a script or a notebook."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .engine import Engine
from .stream import Stream


async def run(
    *streams: Stream,
    state: str = "memory",
    data: Path | str = "penstock-data",
    stop: asyncio.Event | None = None,
) -> None:
    """Run streams until their inputs end or ``stop`` is set, and all is settled.

    ``state`` is where positions are kept between runs: ``memory`` for nowhere, a SQLite file, or a postgresql:// URL.
    Raises PenstockError naming the streams that failed.
    """
    await Engine(streams, state=state, data=Path(data)).run(stop)


def run_sync(*streams: Stream, state: str = "memory", data: Path | str = "penstock-data") -> None:
    """Run streams as ``run`` does, and return when they have ended; works inside a notebook's loop too."""

    def work() -> None:
        with asyncio.Runner(loop_factory=fast_loop()) as runner:
            runner.run(run(*streams, state=state, data=data))

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work()
        return
    with ThreadPoolExecutor(1) as thread:
        thread.submit(work).result()


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's event loop, where it is installed; None for Python's own."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
