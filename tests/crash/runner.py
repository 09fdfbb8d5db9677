"""Run a configuration until it ends or is told to stop; ``<configuration>.running`` is there once it runs.

``--break`` names an invariant to break on purpose, so that the tests can show that they would notice.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from penstock.config.configuration import load
from penstock.engine import Engine
from penstock.errors import PenstockError
from penstock.observe import logs
from penstock.runtime.sink import Sink
from penstock.runtime.transform import Transformed
from penstock.runtime.wal import Wal


def ack_before_writing() -> None:
    """Acknowledge what is not written yet."""
    write = Sink._write

    async def settle(self: Sink, group: Sequence[Transformed]) -> None:
        for done in group:
            await done.delivery.ack()
        await asyncio.sleep(60)  # until it is killed
        await write(self, group)

    Sink.settle = settle  # type: ignore[method-assign]


def answer_before_the_log_is_written() -> None:
    """Acknowledge what is in the log's memory only."""
    commit = Wal._commit_waiting

    async def commit_later(self: Wal) -> None:
        for _, done in self._waiting:
            done.set_result(None)
        await asyncio.sleep(0.2)
        await commit(self)

    Wal._commit_waiting = commit_later  # type: ignore[method-assign]


BREAKS = {"ack": ack_before_writing, "log": answer_before_the_log_is_written}


async def run(path: Path, exit_code: list[int]) -> None:
    configuration = load(path)
    logs.configure(configuration.logging.level, configuration.logging.format, configuration.logging.file_path)
    engine = Engine.of(configuration)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Written before anything is opened too: a signal is handled from here on.
    path.with_suffix(".started").touch()

    async def tell() -> None:
        while not engine.supervised or any(one.state in ("created", "starting") for one in engine.supervised):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        path.with_suffix(".running").touch()

    telling = asyncio.create_task(tell())
    try:
        await engine.run(stop)
    except PenstockError as error:
        print(f"failed: {error}", file=sys.stderr)
        exit_code.append(1)
    finally:
        telling.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--break", dest="broken", choices=BREAKS)
    arguments = parser.parse_args()
    if arguments.broken:
        BREAKS[arguments.broken]()
    exit_code: list[int] = []
    asyncio.run(run(arguments.path, exit_code))
    sys.exit(max(exit_code, default=0))
