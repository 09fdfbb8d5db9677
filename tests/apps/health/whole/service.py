"""The whole service in a process of its own, and those who call it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

from penstock.application import Installation
from penstock.apps.health.scopes import declared
from penstock.platform import commands
from penstock.platform.access.scopes import Scopes
from penstock.platform.ownership import database_of
from penstock.testing.forks import Fork, call
from penstock.testing.servers import free_port

ALL = ("ingest", "read", "export", "admin")
PATIENCE = 90.0
"""How long a condition may take to come true on a machine with much else to do, in seconds."""
_LIMITS = ("INGEST", "READ", "EXPORT", "ADMIN", "BY_ADDRESS", "FAILURES")
UNLIMITED = {
    name: value
    for kind in _LIMITS
    for name, value in (
        (f"PENSTOCK_HEALTH_{kind}__REQUESTS", "1000000"),
        (f"PENSTOCK_HEALTH_{kind}__BYTES", "1000000000000"),
    )
}


_phones: list[Phone] = []


def hang_up() -> None:
    """Close the connections of all who called."""
    while _phones:
        _phones.pop().hang_up()


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Return what ``condition`` returns once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what}"
        time.sleep(0.02)
    return found


class Service:
    """``penstock up`` with a data folder of its own, which may be ended and started again."""

    def __init__(self, folder: Path, database: str | None = None, redis: str | None = None, **environment: str) -> None:
        self.data, self._folder = folder / "data", folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
        self.environment = kept | UNLIMITED | environment
        if database is not None:
            self.environment["PENSTOCK_DATABASE_URL"] = database
        if redis is not None:
            self.environment["PENSTOCK_REDIS_URL"] = redis
        self.database_url = database or f"sqlite:///{self.data}/penstock-health.db"
        self.installation = Installation(self.data, database=database or "")
        self.user_ids: dict[str, int] = {}
        """The id of each user that has a phone."""
        self._log = folder / "log"
        self.within: Sequence[str] = ()
        """A command that runs the service, given as its arguments."""
        self.process: subprocess.Popen[bytes] | Fork | None = None

    @property
    def log(self) -> str:
        """What it has written to standard error."""
        return self._log.read_text() if self._log.exists() else ""

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``penstock`` with the same data."""
        return call(("-m", "penstock"), [*arguments, "--data", str(self.data)], env=self.environment, timeout=PATIENCE)

    def start(self, *, ready: bool = True) -> Self:
        """Start it, and wait until it is ready unless told otherwise."""
        up = ["up", "--address", self.address, "--data", str(self.data), "--inbox", str(self._folder / "inbox")]
        self._folder.mkdir(parents=True, exist_ok=True)
        if self.within:
            command = [*self.within, sys.executable, "-m", "penstock", *up]
            with self._log.open("ab") as log:
                self.process = subprocess.Popen(
                    command,
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    cwd=self._folder,
                )
        else:
            self.process = Fork(("-m", "penstock"), up, log=self._log, cwd=self._folder, env=self.environment)
        if ready:
            until(lambda: self.probe() == 200, "the service is ready")
        return self

    def probe(self, path: str = "/health/ready") -> int:
        """Return the status of a probe; 0 if nobody answers."""
        assert self.process is not None
        assert self.process.poll() is None, f"it has ended: {self.log[-3000:]}"
        try:
            with closing(http.client.HTTPConnection(self.address, timeout=PATIENCE)) as connection:
                connection.request("GET", path)
                return connection.getresponse().status
        except OSError:
            return 0

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=PATIENCE)

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=60)

    def phone(self, user: str | None = None, scopes: Iterable[str] = ALL, name: str = "phone") -> Phone:
        """Return one who calls with a new key, of a new user if none is named."""
        user = user or f"user-{uuid.uuid4()}"
        database = database_of(self.installation, "platform")
        with closing(database):
            text = commands.create_key(
                database, Scopes(declared()), name=name, user=user, scopes=scopes, application="health", as_json=True
            )
        made = json.loads(text)
        self.user_ids[user] = made["user"]
        return Phone(self.address, made["key"], made["id"], user)


@dataclass
class Answer:
    """A status, headers and a body."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.content)


@dataclass
class Phone:
    """One who calls the service with a key."""

    address: str
    key: str
    key_id: str = ""
    user: str = ""
    timeout: float = PATIENCE
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request; a connection that the server had closed meanwhile is made again."""
        sent = {"authorization": f"Bearer {self.key}"} if self.key else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            return self._exchange(method, path, body, sent)
        except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
            return self._exchange(method, path, body, sent)

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.address, timeout=self.timeout)
            _phones.append(self)
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        except (OSError, http.client.HTTPException):
            self.hang_up()
            raise

    def hang_up(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str, status: int = 200, **parameters: Any) -> Any:
        """Return the JSON of an answer."""
        query = urlencode({name: value for name, value in parameters.items() if value is not None})
        answer = self.call("GET", f"{path}?{query}" if query else path)
        assert answer.status == status, (path, answer.status, answer.content[:1000])
        return answer.json

    def post(self, path: str, body: Any = None, status: int | None = 200, **headers: str) -> Any:
        """Post bytes, or something as JSON, and return the JSON of the answer."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        answer = self.call("POST", path, data, **{"content_type": "application/json", **headers})
        assert status in (None, answer.status), (path, answer.status, answer.content[:1000])
        return answer.json

    def send(self, body: Any, path: str = "/api/v1/ingest", **headers: str) -> Any:
        """Send an export and return what became of it, waiting if it was only promised."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.call("POST", path, data, **{"content_type": "application/json", **headers})
        assert answer.status in (200, 202, 400), (answer.status, answer.content[:1000])
        told = answer.json
        return self.outcome(told["id"]) | {"status": answer.status} if answer.status == 202 else told

    def outcome(self, ingest: str, attempt: int = 1, seconds: float = PATIENCE) -> Any:
        """Wait until an attempt at an ingest is complete."""

        def done() -> Any:
            answer = self.call("GET", f"/api/v1/ingest/{ingest}")
            assert answer.status in (200, 503), (ingest, answer.status, answer.content[:500])
            told = answer.json
            return (
                answer.status == 200
                and told["attempt"] >= attempt
                and told["state"] in ("processed", "failed")
                and told
            )

        return until(done, f"ingest {ingest} is processed", seconds)

    def pages(self, path: str, limit: int = 10_000, **parameters: Any) -> Iterator[Any]:
        """Yield all rows of a list, page after page."""
        cursor: str | None = None
        while True:
            page = self.get(path, limit=limit, cursor=cursor, **parameters)
            yield from page["data"]
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def points(self, name: str, limit: int = 10_000, **parameters: Any) -> list[Any]:
        """Return all points of a metric."""
        return list(self.pages(f"/api/v1/metrics/{quote(name, safe='')}", limit, **parameters))

    def metrics(self) -> dict[str, Any]:
        """Return what there is of each metric."""
        return {metric["name"]: metric for metric in self.get("/api/v1/metrics")["data"]}

    def stored(self) -> dict[str, list[Any]]:
        """Return every point of every metric: workouts, series and routes have metrics too."""
        return {name: self.points(name) for name in self.metrics()}
