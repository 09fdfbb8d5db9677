"""An InfluxDB 1 of one's own, which may be stopped, killed, frozen and started again."""

from __future__ import annotations

import base64
import json
import secrets
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from .programs import find_program, free_port, spawn
from .server import Server


def influxdb_program() -> Path:
    """Return where the InfluxDB server is; raises ServerMissing."""
    return find_program("InfluxDB", "influxd")


class InfluxdbServer(Server):
    """An InfluxDB 1 with a user, a password and the database ``penstock``, on a free loopback port."""

    title = "InfluxDB"

    def __init__(self) -> None:
        self._program = influxdb_program()
        super().__init__()
        self.user, self.password, self.database = "penstock", secrets.token_hex(8), "penstock"
        self.port, self._backup_port = free_port(), free_port()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and return once it answers; raises RuntimeError with the end of its log if it does not."""
        folder = self._folder
        configuration = self._configure(
            "influxdb.conf",
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{self._backup_port}"\n'
            f'[meta]\ndir = "{folder}/meta"\n[data]\ndir = "{folder}/data"\nwal-dir = "{folder}/wal"\n'
            f'[http]\nbind-address = "127.0.0.1:{self.port}"\nauth-enabled = true\nlog-enabled = false\n'
            "[monitor]\nstore-enabled = false\n[subscriber]\nenabled = false\n",
        )
        command = [str(self._program), "-config", str(configuration)]
        is_new = not (folder / "data").exists()
        self._launch(lambda log: spawn(command, stdout=log, stderr=log), self._answers, seconds=90)
        if is_new:  # then anybody may make the first user
            self._ask({"q": f"CREATE USER {self.user} WITH PASSWORD '{self.password}' WITH ALL PRIVILEGES"})
        self.query(f"CREATE DATABASE {self.database}")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=60) as answer:
                return bool(answer.status == 204)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def query(self, statement: str) -> Any:
        """Run a statement and return the series that it answers."""
        words = {"q": statement, "db": self.database, "epoch": "ns"}
        return self._ask(words, credentials=f"{self.user}:{self.password}")

    def _ask(self, words: dict[str, str], credentials: str = "") -> Any:
        request = urllib.request.Request(f"{self.url}/query", urllib.parse.urlencode(words).encode(), method="POST")
        if credentials:
            request.add_header("Authorization", f"Basic {base64.b64encode(credentials.encode()).decode()}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.loads(answer.read())
        (result,) = found["results"]
        if "error" in result:
            raise RuntimeError(f"InfluxDB refused the statement: {result['error']}")
        return result.get("series", [])
