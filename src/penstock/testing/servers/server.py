"""What the servers of tests share: a data folder, a start that waits until they answer, removal of both."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from .programs import end


class Server:
    """A server with a data folder of its own, which is deleted with it."""

    title: str
    """What it is called in messages."""
    at_once: signal.Signals = signal.SIGKILL
    """What ends it as a crash would."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix=f"penstock-{self.title.lower()}-"))

    def __enter__(self) -> Self:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _initialise(self) -> None:
        """Make what has to be there before the first start."""

    def start(self) -> None:
        """Start it and return once it answers; raises RuntimeError with the end of its log if it does not."""
        raise NotImplementedError

    def stop(self) -> None:
        """Shut it down in good order; what was written stays."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(self.at_once)

    def pause(self) -> None:
        """Let it answer nothing while its connections stay open, until ``resume``."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it and start it on the same port."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Stop it and delete its data."""
        try:
            self.kill()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _launch(
        self, spawned: Callable[[IO[bytes]], subprocess.Popen[bytes]], answers: Callable[[], bool], seconds: float
    ) -> None:
        """Start the process, which writes to the log given, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            process = self._process = spawned(log)
        deadline = time.monotonic() + seconds
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                log_text = (self._folder / "log").read_text(errors="replace")
                raise RuntimeError(f"{self.title} did not start: {log_text[-2000:]}")
            time.sleep(0.02)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)  # Whoever is paused could not stop.
        end(process, how)

    def _configure(self, name: str, text: str) -> Path:
        """Write a configuration that only we may read, so that no list of processes shows a password."""
        path = self._folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path


def accepts(port: int) -> bool:
    """Tell whether anything accepts connections at a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except OSError:
        return False
    return True
