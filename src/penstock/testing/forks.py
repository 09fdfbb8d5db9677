"""Programs for tests that start at once: forked from a process that has imported what they need.

Most of what a start costs is imports. A test that starts a program to kill it twenty times pays for them once.
What a test says about imports, or about the start itself, it says with ``subprocess``.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CONTEXT = multiprocessing.get_context("forkserver")


def preload(modules: Sequence[str]) -> None:
    """Name the modules that all programs find imported; those that are not installed are left out."""
    _CONTEXT.set_forkserver_preload([__name__, *modules])


class Fork:
    """A running program, with the methods of ``subprocess.Popen`` that tests use; it reads nothing.

    ``program`` is ``("-m", module)`` or ``(path,)``. What it writes is appended to ``log``, and to ``errors`` what it
    writes to stderr if that is given.
    """

    def __init__(
        self,
        program: Sequence[str],
        arguments: Sequence[str] = (),
        *,
        log: Path,
        errors: Path | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        umask: int = -1,
    ) -> None:
        environment = dict(os.environ if env is None else env)
        written = [str(path.absolute()) for path in (log, errors or log)]
        given = ([*program], [*arguments], written, str(cwd or Path.cwd()), environment, umask)
        # A daemon, so that the end of the tests does not wait for what one of them has left behind.
        self._process = _CONTEXT.Process(target=_run, args=given, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.args, self.pid = [*program, *arguments], self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, if it has ended: negative if a signal ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code; raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send it SIGKILL."""
        self._process.kill()


def call(
    program: Sequence[str],
    arguments: Sequence[str] = (),
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as ``subprocess.run`` does that captures its output."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = (Path(folder, name) for name in ("stdout", "stderr"))
        running = Fork(program, arguments, log=output, errors=errors, cwd=cwd, env=env)
        try:
            code = running.wait(timeout)
        finally:
            running.kill()
        return subprocess.CompletedProcess(running.args, code, output.read_text(), errors.read_text())


def _run(
    program: list[str], arguments: list[str], written: list[str], cwd: str, environment: dict[str, str], umask: int
) -> None:
    os.chdir(cwd)
    if umask >= 0:
        os.umask(umask)
    if sys.platform == "linux":  # it does not outlive the tests, whatever ends them
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    for number, path in enumerate((os.devnull, *written)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    if program[0] == "-m":
        sys.path.insert(0, cwd)
        sys.argv = [program[1], *arguments]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(program[0]).parent))
        sys.argv = [program[0], *arguments]
        runpy.run_path(program[0], run_name="__main__")
