"""A ClickHouse of one's own: the engine of chdb behind HTTP, in a process that may be stopped, killed and frozen.

It is the engine of a current server, with its types, formats, tables and deduplication, but not the server: queries
run one at a time, inserts are never gathered, and there is one user.
"""

from __future__ import annotations

import secrets
import sys
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

from .programs import ServerMissing, free_port, spawn
from .server import Server


class ClickhouseServer(Server):
    """A ClickHouse with a user and a password, on a free loopback port; what was written stays."""

    title = "ClickHouse"

    def __init__(self) -> None:
        if find_spec("chdb") is None:
            raise ServerMissing("ClickHouse (chdb) is not installed; install it with: pip install chdb")
        super().__init__()
        self.user, self.password = "penstock", secrets.token_hex(8)
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it is, without user and password."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and return once it answers; raises RuntimeError with the end of its log if it does not."""
        password = self.set_password(self.password)
        command = [sys.executable, "-m", "penstock.testing.servers.clickhouse_engine"]
        arguments = [str(self.port), str(self._folder / "data"), self.user, str(password)]
        self._launch(lambda log: spawn([*command, *arguments], stdout=log, stderr=log), self._answers, seconds=120)

    def set_password(self, password: str) -> Path:
        """Let its user in with ``password`` from now on, and with no other; returns the file that has it."""
        self.password = password
        return self._configure("password", password)

    def _answers(self) -> bool:
        try:
            return self.query("SELECT 1") == b"1\n"
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def query(self, text: str) -> bytes:
        """Run a query and return what it answers."""
        request = urllib.request.Request(self.url, text.encode(), method="POST")
        request.add_header("X-ClickHouse-User", self.user)
        request.add_header("X-ClickHouse-Key", self.password)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: bytes = answer.read()
        return found
