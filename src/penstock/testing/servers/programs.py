"""Programs that tests run: where they are, what to say when they are missing, how they are started and ended."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

INSTALL = f"{Path(sys.executable).name} -m penstock.testing.servers install"
"""The command that installs what is missing."""


class ServerMissing(RuntimeError):
    """A server's program is not installed; says which, and the command that installs it."""


def require_servers() -> bool:
    """Return whether a missing server is a failure, not a reason to skip: in CI, or when asked for."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes") for name in ("CI", "PENSTOCK_REQUIRE_SERVERS"))


def free_port() -> int:
    """Return a loopback port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_program(what: str, *names: str) -> Path:
    """Return the first of the programs ``names`` that is installed; raises ServerMissing, which calls it ``what``."""
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    raise ServerMissing(f"{what} ({' or '.join(names)}) is not installed; install it with: {INSTALL}")


def spawn(command: Sequence[str | Path], signal_with_us: str = "KILL", **options: Any) -> subprocess.Popen[bytes]:
    """Start a server that does not outlive us, where the system can see to that."""
    words = [str(word) for word in command]
    if die_with_us := shutil.which("setpriv"):
        words = [die_with_us, "--pdeathsig", signal_with_us, *words]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, **options)


def end(process: subprocess.Popen[bytes] | None, how: signal.Signals) -> None:
    """Send ``how`` and wait until it has ended; kill it if it takes long."""
    if process is None:
        return
    if process.poll() is None:
        process.send_signal(how)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=60)
