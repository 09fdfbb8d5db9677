"""A NATS with JetStream of one's own, which may be stopped, killed, frozen and started again."""

from __future__ import annotations

import json
import secrets
import socket
from pathlib import Path
from typing import Any

from .golang import build, find_built
from .programs import ServerMissing, find_program, free_port, spawn
from .server import Server

_MODULE, _VERSION = "github.com/nats-io/nats-server/v2", "v2.15.3"


def nats_program() -> Path:
    """Return where the NATS server is, the one that was built before another; raises ServerMissing."""
    try:
        return find_built("NATS", _MODULE, _VERSION)
    except ServerMissing as missing:
        try:
            return find_program("NATS", "nats-server")
        except ServerMissing:
            raise missing from None


def build_nats() -> None:
    """Build the NATS server; raises ServerMissing with the reason if that cannot be done."""
    build(_MODULE, _VERSION)


class NatsServer(Server):
    """A NATS with JetStream, a user and a password, on a free loopback port; what JetStream stored stays.

    ``settings`` are added to its configuration, in place of the user where they have an ``authorization``.
    """

    title = "NATS"

    def __init__(self, **settings: Any) -> None:
        self._program = nats_program()
        super().__init__()
        self.user, self.password = "penstock", secrets.token_hex(8)
        self.port = free_port()
        self.settings = settings

    @property
    def url(self) -> str:
        """Where it is, with user and password."""
        return f"nats://{self.user}:{self.password}@127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """Where it is, without user and password."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and return once it answers; raises RuntimeError with the end of its log if it does not."""
        settings = {
            "host": "127.0.0.1",
            "port": self.port,
            "jetstream": {"store_dir": str(self._folder / "jetstream"), "max_file_store": 2 << 30},
            "authorization": {"user": self.user, "password": self.password},
            "max_pending": 256 << 20,
            **self.settings,
        }
        configuration = self._configure("nats.conf", json.dumps(settings))
        self._launch(
            lambda log: spawn([self._program, "-c", configuration], stdout=log, stderr=log), self._greets, seconds=90
        )

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False
