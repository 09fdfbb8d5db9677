"""The health service is killed with -9 at every stage, again and again: no promised point is lost, none doubled."""

from __future__ import annotations

import http.client
import json
import os
import random
import sqlite3
import subprocess
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.forks import Fork, call
from penstock.testing.servers import PostgresServer, free_port

from .runner import STAGES

pytestmark = [pytest.mark.crash, pytest.mark.timeout(420)]

RUNNER = Path(__file__).with_name("runner.py")
KILLS = 24
SENDERS = 3


class Sender(threading.Thread):
    """A phone that sends exports which nobody sent before, and notes which were promised."""

    def __init__(self, number: int, address: str, key: str, ended: threading.Event) -> None:
        super().__init__(daemon=True)
        self._number, self._address, self._key, self._ended = number, address, key, ended
        self._random = random.Random(number)
        self.promised: dict[str, int] = {}
        """How many points each ingest had that was answered with 200 or 202."""
        self._sent = 0

    def run(self) -> None:
        while not self._ended.is_set():
            body, points = self._export()
            with suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(self._address, timeout=60)
                with closing(connection):
                    headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
                    connection.request("POST", "/api/v1/ingest", body, headers)
                    answer = connection.getresponse()
                    told = json.loads(answer.read())
                    if answer.status in (200, 202):
                        self.promised[told["id"]] = points
                        continue
                    assert answer.status == 503, told
            time.sleep(0.05)

    def _export(self) -> tuple[bytes, int]:
        """Small ones, and now and then one of more than a megabyte, which is cut into several parts."""
        self._sent += 1
        points = 20_000 if self._random.random() < 0.2 else self._random.randint(1, 400)
        begin = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=200 * self._number, seconds=self._sent * 30_000)
        data = [
            {"date": f"{begin + timedelta(seconds=n):%Y-%m-%d %H:%M:%S} +0000", "qty": n, "source": f"s{self._number}"}
            for n in range(points)
        ]
        return json.dumps(
            {"data": {"metrics": [{"name": "step_count", "units": "count", "data": data}]}}
        ).encode(), points


class Target:
    """``penstock up`` in a process that dies where it is told to."""

    def __init__(self, folder: Path, database: str | None) -> None:
        self.address, self._folder = f"127.0.0.1:{free_port()}", folder
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
        for kind in ("INGEST", "BY_ADDRESS"):
            self._environment |= {f"PENSTOCK_HEALTH_{kind}__REQUESTS": "1000000"}
            self._environment |= {f"PENSTOCK_HEALTH_{kind}__BYTES": "1000000000000"}
        if database is not None:
            self._environment["PENSTOCK_DATABASE_URL"] = database
        self._data = ["--data", str(folder / "data")]
        self._log = folder / "log"
        self._process: Fork | None = None

    def key(self) -> str:
        """Make a key."""
        command = ["health", "keys", "create", "--name", "phone", *self._data]
        command += ["--scope", "health.ingest", "--scope", "health.read"]
        made = call(("-m", "penstock"), command, env=self._environment)
        made.check_returncode()
        return made.stdout.strip()

    def start(self, stage: str, number: int) -> None:
        """Start it; it dies the n-th time that it reaches the stage."""
        up = ["up", "--address", self.address, *self._data, "--inbox", str(self._folder / "inbox")]
        arguments = [stage, str(number), "--", *up]
        self._process = Fork([str(RUNNER)], arguments, log=self._log, cwd=self._folder, env=self._environment)

    def dies_within(self, seconds: float) -> bool:
        """Whether it dies in time; it is killed if not."""
        assert self._process is not None
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
            return False
        assert code == -9, f"it ended by itself with {code}: {self._log.read_text()[-3000:]}"
        return True

    def end(self) -> None:
        """Ask it to end, as an operator would."""
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(40) == 0, self._log.read_text()[-3000:]

    def close(self) -> None:
        """Kill it if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def ask(self, path: str, key: str) -> Any:
        """Return the answer to a GET."""
        with closing(http.client.HTTPConnection(self.address, timeout=60)) as connection:
            connection.request("GET", path, headers={"authorization": f"Bearer {key}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())


def _outcome(target: Target, ingest: str, key: str, until: float) -> dict[str, Any]:
    """Wait until an ingest is processed."""
    while True:
        with suppress(OSError):
            status, told = target.ask(f"/api/v1/ingest/{ingest}", key)
            assert status in (200, 503), f"{ingest} was promised: {told}"
            if told.get("state") in ("processed", "failed"):
                return dict(told)
        assert time.monotonic() < until, f"{ingest} is not processed in time"
        time.sleep(0.02)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_l21_no_promised_point_is_lost_or_doubled_whenever_the_service_is_killed(tmp_path: Path, database: str) -> None:
    if database == "postgresql":
        with PostgresServer() as server:
            _kill_again_and_again(tmp_path, server.url)
    else:
        _kill_again_and_again(tmp_path, None)


def _kill_again_and_again(folder: Path, url: str | None) -> None:
    target, chance = Target(folder, url), random.Random(7)
    key, ended = target.key(), threading.Event()
    senders = [Sender(number, target.address, key, ended) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    stages, died = list(STAGES), dict.fromkeys(STAGES, 0)
    try:
        for kill in range(KILLS):
            stage = stages[kill % len(stages)]
            target.start(stage, chance.randint(1, 12))
            died[stage] += target.dies_within(20)
        assert all(died.values()), f"these stages were never reached: {[name for name in died if not died[name]]}"
        ended.set()
        target.start("none", 0)
        for sender in senders:
            sender.join()
        promised = {ingest: points for sender in senders for ingest, points in sender.promised.items()}
        until = time.monotonic() + 90
        outcomes = {ingest: _outcome(target, ingest, key, until) for ingest in promised}
        target.end()
    finally:
        ended.set()
        target.close()
    assert len(promised) > KILLS // 2
    for ingest, points in promised.items():
        told = outcomes[ingest]
        assert (told["received"], told["stored"] + told["unchanged"]) == (points, points), told
    _check_tables(folder, url, promised)
    if url is None:
        _check_that_a_loss_is_noticed(folder, promised)


def _check_that_a_loss_is_noticed(folder: Path, promised: dict[str, int]) -> None:
    with closing(sqlite3.connect(folder / "data" / "penstock-health.db")) as connection:
        connection.execute("DELETE FROM health_points WHERE ingest_id = ? AND value = 0", (next(iter(promised)),))
        connection.commit()
    with pytest.raises(AssertionError):
        _check_tables(folder, None, promised)


def _check_tables(folder: Path, url: str | None, promised: dict[str, int]) -> None:
    """Each promised point is there once, and each ingest is counted once."""
    points = dict(_rows(folder, url, "SELECT CAST(ingest_id AS text), count(*) FROM health_points GROUP BY 1"))
    assert {ingest: points.get(ingest, 0) for ingest in promised} == promised
    [[stored, received]] = _rows(folder, url, "SELECT sum(stored), sum(received) FROM health_ingests")
    assert stored == received == sum(points.values())
    assert _rows(folder, url, "SELECT count(*) FROM health_quarantine") == [(0,)]


def _rows(folder: Path, url: str | None, sql: str) -> list[Any]:
    if url is None:
        with closing(sqlite3.connect(folder / "data" / "penstock-health.db")) as connection:
            return connection.execute(sql).fetchall()
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("SET search_path = health, public")
        return connection.execute(sql).fetchall()
