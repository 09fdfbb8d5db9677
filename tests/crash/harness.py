"""Run a stream in a process of its own, kill it with -9 at chosen moments, and count what became of the rows."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock.testing.forks import Fork

_RUNNER = Path(__file__).with_name("runner.py")


class Process:
    """A configuration that runs in a process of its own."""

    def __init__(self, folder: Path, configuration: dict[str, Any], *, broken: str | None = None) -> None:
        self.folder, self.kills, self.early = folder, 0, 0
        self._path, self._broken = folder / "streams.json", broken
        configuration = {"health_check": {"enabled": False}, "data": str(folder / "data"), **configuration}
        self._path.write_text(json.dumps(configuration))
        self.log = folder / "log"
        self._process: Fork | None = None

    @property
    def configuration(self) -> Path:
        """The file that it runs."""
        return self._path

    def start(self) -> None:
        """Start it, and return at once."""
        for suffix in (".running", ".started"):
            self._path.with_suffix(suffix).unlink(missing_ok=True)
        arguments = [str(self._path), *(["--break", self._broken] if self._broken else [])]
        self._process = Fork([str(_RUNNER)], arguments, log=self.log)

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process is not None
        return self._process.pid

    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process is None or self._process.poll() is not None

    def wait_until_running(self, what: str = ".running", timeout: float = 120) -> None:
        """Return once all streams are open, or the process has ended."""
        self.wait_for(lambda: self._path.with_suffix(what).exists() or self.has_ended(), what, timeout)

    def wait_for(self, condition: Callable[[], Any], what: str, timeout: float = 120) -> None:
        """Return once a condition holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"no {what} in {timeout} s: {self.tail()}"
            time.sleep(0.003)

    def kill(self) -> bool:
        """End it with SIGKILL; returns whether it was still at work."""
        assert self._process is not None
        alive = self._process.poll() is None
        self._process.kill()
        self._process.wait(60)
        self.kills += alive
        return alive

    def terminate(self, timeout: float = 60) -> tuple[int, float]:
        """Send SIGTERM; returns the exit code and how long it took to end."""
        assert self._process is not None
        began = time.monotonic()
        self._process.terminate()
        code = self._process.wait(timeout)
        return code, time.monotonic() - began

    def wait(self, timeout: float = 60) -> int:
        """Wait until it ends by itself; returns the exit code."""
        assert self._process is not None
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the process did not end: {self.tail()}") from None

    def close(self) -> None:
        """Leave nothing running."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(60)

    def tail(self) -> str:
        """The end of what it logged."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""


def kill_repeatedly(
    process: Process,
    times: int,
    chance: random.Random,
    *,
    longest: float = 0.5,
    more: Callable[[], None] | None = None,
    before: Callable[[], None] | None = None,
) -> None:
    """Start the process and kill it, again and again: one time in four while it starts, else while it works.

    ``more`` gives it more to do when it ends by itself; ``before`` waits for what must have happened before a kill that
    is not early.
    """
    deadline = time.monotonic() + 400
    while process.kills < times:
        assert time.monotonic() < deadline, f"{process.kills} kills only: {process.tail()}"
        process.start()
        if chance.random() < 0.25:
            time.sleep(chance.uniform(0, 0.4))
            process.early += 1
        else:
            process.wait_until_running()
            if before is not None:
                before()
            time.sleep(chance.uniform(0, longest))
        if process.has_ended():
            code = process.wait()
            assert code == 0, f"exit code {code}: {process.tail()}"
            assert more is not None, "the work ended before the last kill"
            more()
        else:
            process.kill()


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """Ask a SQLite file; a table that is not there yet has no rows."""
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as database:
        try:
            return database.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
