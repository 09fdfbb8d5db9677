"""Start a server as a process of its own, wait until it answers, and end it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import cache

_PATIENCE = 30.0


@contextmanager
def running(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """Yield the process id of a server; it is asked to end afterwards, and must."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, cwd=cache.ROOT, env={**os.environ, **(environment or {})}
        )
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(url: str, pid: int, log: Path) -> None:
    """Return as soon as the URL answers 200; raises RuntimeError with the server's last words if it does not."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if (waited := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None and waited.si_pid:
            break
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.005)
    raise RuntimeError(f"{url} does not answer: {log.read_text()[-2000:]}")
