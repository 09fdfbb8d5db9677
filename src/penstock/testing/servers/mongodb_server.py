"""A server that speaks MongoDB's protocol: FerretDB over SQLite, which may be stopped, killed and started again."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from .golang import build, find_built
from .programs import free_port, spawn
from .server import Server

_MODULE, _VERSION = "github.com/FerretDB/FerretDB", "v1.24.2"


def mongodb_program() -> Path:
    """Return where FerretDB is; raises ServerMissing."""
    return find_built("FerretDB", _MODULE, _VERSION)


def build_mongodb() -> None:
    """Build FerretDB; raises ServerMissing with the reason if that cannot be done."""
    build(_MODULE, _VERSION, package="cmd/ferretdb", files={"build/version/version.txt": _VERSION})


class MongodbServer(Server):
    """A FerretDB with a user and a password, on a free loopback port; what was written stays.

    It has MongoDB's protocol and most of its commands, and no decimals, transactions or change streams.
    """

    title = "FerretDB"

    def __init__(self) -> None:
        self._program = mongodb_program()
        super().__init__()
        self.user, self.password = "penstock", secrets.token_hex(8)
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it is, with user and password."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """Return where it is reached through another port, with user and password."""
        return f"mongodb://{self.user}:{self.password}@127.0.0.1:{port}/?authSource=admin"

    def start(self) -> None:
        """Start it and return once it answers; raises RuntimeError with the end of its log if it does not."""
        command = [
            str(self._program),
            "--handler=sqlite",
            f"--listen-addr=127.0.0.1:{self.port}",
            "--debug-addr=-",
            f"--state-dir={self._folder}",
            f"--sqlite-url=file:{self._folder}/",
            "--telemetry=disable",
            "--log-level=WARN",
            "--test-enable-new-auth",
            "--setup-database=admin",
            f"--setup-username={self.user}",
        ]
        environment = {"FERRETDB_SETUP_PASSWORD": self.password, "PATH": "/usr/bin:/bin"}
        self._launch(lambda log: spawn(command, stdout=log, stderr=log, env=environment), self._listens, seconds=90)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=60).close()
        except OSError:
            return False
        return True
