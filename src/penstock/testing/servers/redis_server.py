"""A Redis of one's own, which may be stopped, killed and started again."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from .programs import end, find_program, free_port, spawn


def redis_program() -> Path:
    """Return where the Redis server is; raises ServerMissing."""
    return find_program("Redis", "redis-server", "valkey-server")


class RedisServer:
    """A Redis with a data folder and a password of its own, on a free loopback port.

    What was written is still there after ``stop`` and ``start``, and all but the last second of it after ``kill``.
    """

    def __init__(self) -> None:
        self._program = redis_program()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="penstock-redis-"))
        self.password = secrets.token_hex(8)
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where its first database is, with the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def start(self) -> None:
        """Start it and return once it answers; raises RuntimeError with the end of its log if it does not."""
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self._folder,
            "requirepass": self.password,
            "appendonly": "yes",
            "save": '""',
            "daemonize": "no",
        }
        configuration = self._folder / "redis.conf"  # A file, so that no list of processes shows the password.
        configuration.touch(mode=0o600)
        configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        with (self._folder / "log").open("ab") as log:
            self._process = spawn([self._program, configuration], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while self._ping() != b"+PONG\r\n":
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self._folder / "log").read_text(errors="replace")
                raise RuntimeError(f"Redis did not start: {log_text[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Shut it down; what was written stays."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it and start it on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let it answer nothing while its connections stay open, until ``resume``."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def clear(self) -> None:
        """Delete everything in it."""
        self.command("FLUSHALL")

    def command(self, *words: str, timeout: float = 5.0) -> bytes:
        """Send one command and return the answer as it comes on the wire; raises RuntimeError for an error."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection,
            connection.makefile("rb") as received,
        ):
            connection.sendall(_request("AUTH", self.password) + _request(*words))
            for answer in (received.readline(), received.readline()):
                if answer.startswith(b"-"):
                    raise RuntimeError(f"Redis refused {words[0]}: {answer.decode(errors='replace').strip()}")
            return answer

    def remove(self) -> None:
        """Stop it and delete its data."""
        try:
            self.kill()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _ping(self) -> bytes:
        try:
            return self.command("PING")
        except (OSError, RuntimeError):
            return b""

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)  # Whoever is paused could not stop.
        end(process, how)


def _request(*words: str) -> bytes:
    parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    return f"*{len(parts)}\r\n{''.join(parts)}".encode()


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis and yield its URL; raises ServerMissing when it is not installed."""
    with RedisServer() as server:
        yield server.url
