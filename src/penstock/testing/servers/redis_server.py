"""A Redis of one's own, which may be stopped, killed and started again."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .programs import find_program, free_port, spawn
from .server import Server


def redis_program() -> Path:
    """Return where the Redis server is; raises ServerMissing."""
    return find_program("Redis", "redis-server", "valkey-server")


class RedisServer(Server):
    """A Redis with a data folder and a password of its own, on a free loopback port.

    What was written is still there after ``stop`` and ``start``, and all but the last second of it after ``kill``.
    """

    title = "Redis"

    def __init__(self) -> None:
        self._program = redis_program()
        super().__init__()
        self.password = secrets.token_hex(8)
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where its first database is, with the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

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
        configuration = self._configure("redis.conf", "".join(f"{name} {value}\n" for name, value in settings.items()))
        self._launch(
            lambda log: spawn([self._program, configuration], stdout=log, stderr=log),
            lambda: self._ping() == b"+PONG\r\n",
            seconds=90,
        )

    def clear(self) -> None:
        """Delete everything in it."""
        self.command("FLUSHALL")

    def command(self, *words: str, timeout: float = 60.0) -> bytes:
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

    def _ping(self) -> bytes:
        try:
            return self.command("PING")
        except (OSError, RuntimeError):
            return b""


def _request(*words: str) -> bytes:
    parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    return f"*{len(parts)}\r\n{''.join(parts)}".encode()


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis and yield its URL; raises ServerMissing when it is not installed."""
    with RedisServer() as server:
        yield server.url
