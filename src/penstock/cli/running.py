"""Run an engine under signals: stop on the first, exit at once on the second."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ..api import fast_loop
from ..config.configuration import Configuration, load
from ..engine import Engine
from ..errors import PenstockError
from ..observe import logs, tracing
from ..platform.application import prepare, services_of
from .deadline import Deadline, exit_at_once
from .progress import show_progress
from .reloading import Reloads

log = logging.getLogger("penstock")

MAX_OPEN_FILES = 16384
"""How many files and connections we ask the system for."""

OnStart = Callable[[Engine], Awaitable[None]]


def run_file(file: Path) -> int:
    """Run the streams of a file; returns the exit code."""
    configuration = load(file)
    prepare(configuration)
    return run_engine(
        Engine.of(configuration, services_of(configuration), lambda: load(file)), configuration, file=file
    )


def run_engine(
    engine: Engine, configuration: Configuration, on_start: OnStart | None = None, file: Path | None = None
) -> int:
    """Run an engine to its end; returns the exit code, after saying on standard error what failed.

    ``on_start`` is awaited beside the engine, and cancelled when that ends. ``file`` is what `penstock reload` names.
    """
    with show_progress(engine, configuration):
        _configure_logs(configuration)
        for note in configuration.notes():
            log.warning("%s", note)
        if configuration.tracing is not None:
            tracing.begin(configuration.tracing.endpoint, configuration.tracing.service_name)
        _collect_garbage_rarely()
        _allow_many_files()
        signals = _Signals(engine.shutdown_timeout)
        try:
            with (
                Reloads(engine, configuration.data, file) as reloads,
                asyncio.Runner(loop_factory=fast_loop()) as runner,
            ):
                runner.run(_run(engine, on_start, signals, reloads))
        except PenstockError as error:
            sys.stdout.flush()
            sys.stderr.write(f"{error}\n")
            return 1
        finally:
            tracing.end()
            signals.call_off()
    return 0


def _configure_logs(configuration: Configuration) -> None:
    wanted = configuration.logging
    try:
        logs.configure(wanted.level, wanted.format, wanted.file_path)
    except OSError as error:
        logs.configure(wanted.level, wanted.format)
        raise PenstockError(f"logging.file_path: {error.strerror}: {wanted.file_path}") from error


def _collect_garbage_rarely() -> None:
    """Keep the collector from walking over all that was imported, in the middle of a request.

    Batches and requests are freed by reference counts; what goes in circles is little, and still found. Imports leave
    hardly any garbage, and looking for it would take a tenth of the time until the first row.
    """
    gc.freeze()
    gc.set_threshold(2_000, 10, 10)


def _allow_many_files() -> None:
    """Let this process open as many files as the system allows, up to a limit: shells allow it too few connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _run(engine: Engine, on_start: OnStart | None, signals: _Signals, reloads: Reloads) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.stop, number, stop)
    loop.add_signal_handler(signal.SIGHUP, reloads.ask)
    beside: asyncio.Future[Any] | None = asyncio.ensure_future(on_start(engine)) if on_start else None
    try:
        await engine.run(stop)
    finally:
        await reloads.close()
        if beside is not None:
            beside.cancel()


class _Signals:
    """What a signal does: the first one stops, within ``timeout`` seconds, and the second one exits at once."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._deadline: Deadline | None = None

    def stop(self, number: signal.Signals, stop: asyncio.Event) -> None:
        """Set ``stop``, or exit if it is set already."""
        if stop.is_set():
            # What is in flight is read again by the next run, as after a crash.
            exit_at_once(128 + number)
        stop.set()
        self._deadline = Deadline(self._timeout)
        sys.stderr.write("stopping: writing what is on its way (once more to exit at once)\n")
        sys.stderr.flush()

    def call_off(self) -> None:
        """Let the process go on: all has ended."""
        if self._deadline is not None:
            self._deadline.call_off()
