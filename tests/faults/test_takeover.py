"""Whoever reaches the port cannot make himself a key, or write what belongs to an application."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from argon2 import PasswordHasher

from penstock.testing.servers import free_port

KEY = "hea_deadbeef00000000000000000000000000000000"
PLACES = (
    "health_keys",
    "health_users",
    "penstock_keys",
    "health.health_keys",
    "main.health_keys",
    "penstock.penstock_keys",
)


class Up:
    """``penstock up`` with what a stranger can do to it."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder, self.address = folder, f"127.0.0.1:{free_port()}"
        self.environment = {"PATH": "/usr/bin:/bin", **({"PENSTOCK_DATABASE_URL": url} if url else {})}
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "penstock", "up", "--address", self.address],
                cwd=folder,
                env=self.environment,
                stderr=log,
            )
        self.until(lambda: self.get("/readiness") == 200)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 50
        while not condition():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def get(self, path: str, key: str = "") -> int:
        request = urllib.request.Request(f"http://{self.address}{path}", headers={"authorization": f"Bearer {key}"})
        return self._status(request)

    def post(self, table: str, row: dict[str, object]) -> int:
        url = f"http://{self.address}/ingest/{table}"
        headers = {"content-type": "application/json"}
        return self._status(urllib.request.Request(url, json.dumps(row).encode(), headers))

    def _status(self, request: urllib.request.Request) -> int:
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def penstock(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "penstock", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=50, check=False
        )


def _forged() -> dict[str, object]:
    return {
        "id": "01a22a60-8fb5-7000-bcd9-000000000001",
        "user_id": 1,
        "prefix": "deadbeef",
        "hash": PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(KEY),
        "name": "forged",
        "scopes": '["ingest", "read", "export", "admin"]',
        "created_at": "2026-11-30 02:55:01.173871Z",
    }


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def up(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Up]:
    url = request.getfixturevalue("postgis_database") if request.param == "postgresql" else None
    running = Up(tmp_path, url)
    yield running
    running.process.kill()
    running.process.wait(timeout=20)


def test_a_stranger_cannot_make_himself_a_key(up: Up) -> None:
    made = up.penstock("health", "keys", "create", "--name", "phone")
    assert made.returncode == 0, made.stderr
    own = made.stdout.strip().splitlines()[-1]
    for table in PLACES:
        up.post(table, _forged())
        folder = up.folder / "inbox" / table
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rows.json").write_text(json.dumps([_forged()]) + "\n")
    up.post("witness", {"n": 1})
    up.until(lambda: "1" in up.penstock("query", "SELECT count(*) AS n FROM witness").stdout)
    up.until(lambda: "rows.json" in up.penstock("query", "--format", "csv", "SELECT metadata FROM _quarantine").stdout)
    up.until(lambda: up.get("/api/v1/data-quality", KEY) != 503)
    assert up.get("/api/v1/data-quality", KEY) == 401
    assert "forged" not in up.penstock("health", "keys", "list").stdout
    assert up.get("/api/v1/api-keys", own) != 401


@pytest.mark.parametrize("table", ["health_keys", "Health_Keys", "health_points", "health_schema_version"])
def test_names_of_tables_that_were_kept_here_are_refused_with_a_reason(up: Up, table: str) -> None:
    up.post(table, {"n": 1})
    up.until(lambda: table in up.penstock("query", "--format", "csv", "SELECT metadata FROM _quarantine").stdout)
    assert up.penstock("query", "SELECT reason FROM _quarantine").stdout.strip()
    assert table not in up.penstock("query").stdout.split()


def test_a_query_changes_nothing(up: Up) -> None:
    up.post("witness", {"n": 1})
    up.until(lambda: "1" in up.penstock("query", "SELECT count(*) AS n FROM witness").stdout)
    for sql in (
        "INSERT INTO witness VALUES (2)",
        "ATTACH 'penstock-data/penstock-health.db' AS h",
        "COPY witness TO '/tmp/x'",
        "PRAGMA writable_schema = ON",
        "DELETE FROM health.health_keys",
        "SELECT 1; DELETE FROM witness",
    ):
        assert up.penstock("query", sql).returncode == 1, sql
    assert "1" in up.penstock("query", "SELECT count(*) AS n FROM witness").stdout


def test_each_application_has_tables_of_its_own(up: Up) -> None:
    url = up.environment.get("PENSTOCK_DATABASE_URL")
    if url is not None:
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
            assert not [name for (name,) in found if name.startswith("health")]
        return
    with closing(sqlite3.connect(up.folder / "penstock-data" / "penstock.db")) as connection:
        found = connection.execute("SELECT name FROM sqlite_schema")
        assert not [name for (name,) in found if name.startswith("health")]
