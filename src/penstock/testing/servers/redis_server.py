"""A Redis of one's own, which may be stopped, killed and started again."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .programs import find_program, free_port, spawn
from .server import Server, accepts


def redis_program() -> Path:
    """Return where the Redis server is; raises ServerMissing."""
    return find_program("Redis", "redis-server", "valkey-server")


class RedisServer(Server):
    """A Redis with a data folder and a password of its own, on a free loopback port.

    What was written is still there after ``stop`` and ``start``, and all but the last second of it after ``kill``.
    """

    title = "Redis"

    def __init__(self, **settings: object) -> None:
        """``settings`` are added to its configuration, with ``_`` for ``-``."""
        self._program = redis_program()
        super().__init__()
        self.password = secrets.token_hex(8)
        self.port = free_port()
        self.settings = {name.replace("_", "-"): value for name, value in settings.items()}

    @property
    def url(self) -> str:
        """Where its first database is, with the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @classmethod
    def cluster(cls) -> RedisServer:
        """Return a server that is a cluster by itself."""
        return _Cluster(cluster_enabled="yes", cluster_port=free_port())

    def sentinel(self) -> Sentinel:
        """Return a sentinel that knows this server as ``mymaster``."""
        return Sentinel(self)

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
            **self.settings,
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

    def command(self, *words: str, timeout: float = 60.0, everything: bool = False) -> bytes:
        """Send one command and return the first line of the answer, or all; raises RuntimeError for an error."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection,
            connection.makefile("rb") as received,
        ):
            connection.sendall(_request("AUTH", self.password) + _request(*words))
            for answer in (received.readline(), received.readline()):
                if answer.startswith(b"-"):
                    raise RuntimeError(f"Redis refused {words[0]}: {answer.decode(errors='replace').strip()}")
            if everything and answer.startswith(b"$"):
                return received.read(int(answer[1:]))
            return answer

    def _ping(self) -> bytes:
        try:
            return self.command("PING")
        except (OSError, RuntimeError):
            return b""


def _request(*words: str) -> bytes:
    parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    return f"*{len(parts)}\r\n{''.join(parts)}".encode()


class _Cluster(RedisServer):
    def start(self) -> None:
        super().start()
        if b"16384" not in self.command("CLUSTER", "INFO", everything=True):
            self.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        until = time.monotonic() + 60
        while b"cluster_state:ok" not in self.command("CLUSTER", "INFO", everything=True):
            assert time.monotonic() < until, "the cluster has not come up"
            time.sleep(0.02)


class Sentinel(Server):
    """A sentinel, which tells where a Redis is."""

    title = "Sentinel"

    def __init__(self, master: RedisServer) -> None:
        self._program, self._master = redis_program(), master
        super().__init__()
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and return once it accepts; raises RuntimeError with the end of its log if it does not."""
        lines = (
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self._folder}",
            f"sentinel monitor mymaster 127.0.0.1 {self._master.port} 1",
            f"sentinel auth-pass mymaster {self._master.password}",
        )
        configuration = self._configure("sentinel.conf", "\n".join(lines))
        self._launch(
            lambda log: spawn([self._program, configuration, "--sentinel"], stdout=log, stderr=log),
            lambda: accepts(self.port),
            seconds=90,
        )


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis and yield its URL; raises ServerMissing when it is not installed."""
    with RedisServer() as server:
        yield server.url
