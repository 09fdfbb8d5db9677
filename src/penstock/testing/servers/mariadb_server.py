"""A MariaDB of one's own, which may be stopped, killed, frozen and started again."""

from __future__ import annotations

import itertools
import secrets
import socket
import subprocess
from pathlib import Path

from .programs import find_program, free_port, spawn
from .server import Server


def mariadb_program() -> Path:
    """Return where the MariaDB server is; raises ServerMissing."""
    return find_program("MariaDB", "mariadbd", "mysqld")


class MariadbServer(Server):
    """A MariaDB with a user and a password, on a free loopback port; what was committed stays."""

    title = "MariaDB"

    def __init__(self, *, fsync: bool = True) -> None:
        self._program = mariadb_program()
        self._installer = find_program("MariaDB", "mariadb-install-db", "mysql_install_db")
        super().__init__()
        self.user, self.password = "penstock", secrets.token_hex(8)
        self.port = free_port()
        self._fsync = fsync
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        """Where its first database is, with user and password."""
        return self.url_at(self.port)

    def url_at(self, port: int, database: str = "penstock") -> str:
        """Return where a database is reached through another port, with user and password."""
        return f"mysql://{self.user}:{self.password}@127.0.0.1:{port}/{database}"

    def create_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"penstock_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url_at(self.port, name)

    def execute(self, statement: str) -> None:
        """Run a statement as the administrator."""
        self._administer(statement)

    def _administer(self, statement: str) -> None:
        client = find_program("MariaDB", "mariadb", "mysql")
        command = [str(client), "--no-defaults", f"--socket={self._socket}", "--user=root", "-e", statement]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    @property
    def _socket(self) -> Path:
        return self._folder / "socket"

    def _initialise(self) -> None:
        command = [
            str(self._installer),
            "--no-defaults",
            f"--datadir={self._folder / 'data'}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=180)
        user = f"'{self.user}'@'127.0.0.1'"
        start = (  # a statement a line
            "CREATE DATABASE IF NOT EXISTS penstock;\n"
            f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO {user};\n"
        )
        self._configure("start.sql", start)

    def start(self) -> None:
        """Start it and return once it answers; raises RuntimeError with the end of its log if it does not."""
        command = [
            str(self._program),
            "--no-defaults",
            f"--datadir={self._folder / 'data'}",
            f"--socket={self._socket}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--init-file={self._folder / 'start.sql'}",
            f"--pid-file={self._folder / 'pid'}",
            "--skip-log-bin",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=64M",
            f"--innodb-flush-log-at-trx-commit={1 if self._fsync else 2}",
            "--user=root",
        ]
        self._launch(lambda log: spawn(command, stdout=log, stderr=log), self._greets, seconds=120)

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
                return b"mysql_native_password" in connection.recv(200)
        except OSError:
            return False
