"""Nobody makes himself a key to another application's data by sending rows, files or queries."""

from __future__ import annotations

import json
import secrets
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from argon2 import PasswordHasher

from penstock.platform.ownership import LEGACY_TABLES

_NAMES = (
    "health_keys",
    "HEALTH_KEYS",
    "main.health_keys",
    "health.keys",
    "health.health_keys",
    "penstock_keys",
    "platform.penstock_keys",
)
_QUOTED = ('"health"."keys"', '"health_keys"', "[health_keys]", "`health_keys`", "health_keys ", "public.health_keys")


def _forged(key: str) -> dict[str, Any]:
    return {
        "id": "01a22a47-0000-7000-8000-000012345678",
        "user_id": 1,
        "prefix": key[4:12],
        "hash": PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1).hash(key),
        "name": "intruder",
        "scopes": '["ingest", "read", "export", "admin"]',
        "created_at": "2026-11-30T00:00:00.000000Z",
    }


def _me(running, key: str) -> int:
    request = urllib.request.Request(f"{running.url}/api/v1/me", headers={"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def _rows(penstock, sql: str, **environment: str) -> list[dict[str, Any]]:
    done = penstock("query", "--format", "json", sql, **environment)
    return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []


def _settle(running, penstock, folder: Path, **environment: str) -> None:
    """Wait until what was sent before is stored or refused."""
    mark = secrets.token_hex(8)
    assert running.post("/ingest/marks", {"mark": mark}) == 200
    (folder / "inbox" / "marks").mkdir(exist_ok=True)
    (folder / "inbox" / "marks" / f"{mark}.jsonl").write_text(json.dumps({"mark": mark}) + "\n")
    wanted = f"SELECT count(*) AS n FROM marks WHERE mark = '{mark}'"
    running.wait_for(lambda: _rows(penstock, wanted, **environment) == [{"n": 2}], "the marks")


def _attack(running, penstock, folder: Path, **environment: str) -> None:
    genuine = penstock("health", "keys", "create", "--name", "phone", **environment).stdout.split()[-1]
    running.wait_for(lambda: _me(running, genuine) == 200, "the service of health")
    key = f"hea_{secrets.token_hex(20)}"
    row = _forged(key)
    names = [*_NAMES, *_QUOTED]
    for name in names:
        assert running.post(f"/ingest/{urllib.request.quote(name)}", row) in (200, 400, 401, 403, 404)
    for table in ("health_keys", "health_users", "health_points_2026_11", "Health_Keys", "health_schema_version"):
        running.post(f"/ingest/{table}", {**row, "user_id": "one", "version_num": 5})
        inbox = folder / "inbox" / table
        inbox.mkdir()
        (inbox / "x.jsonl").write_text(json.dumps(row) + "\n")
    _settle(running, penstock, folder, **environment)
    for sql in (
        "INSERT INTO health_keys (id) VALUES ('x')",
        "UPDATE health_keys SET scopes = '[]'",
        "DELETE FROM health.health_keys",
        "ATTACH 'penstock-data/penstock-health.db' AS x",
        "PRAGMA writable_schema = ON",
        "COPY health_keys FROM '/dev/null'",
        "UPDATE platform.penstock_keys SET scopes = '[]'",
        "SELECT 1; DELETE FROM marks",
        "WITH x AS (INSERT INTO health_keys (id) VALUES ('x') RETURNING 1) SELECT * FROM x",
    ):
        assert penstock("query", sql, **environment).returncode == 1, sql
    assert _me(running, key) == 401
    assert running.end() == 0


def test_rows_files_and_queries_never_make_a_key(up, penstock, tmp_path: Path) -> None:
    _attack(up(), penstock, tmp_path)
    reasons = " ".join(row["reason"] for row in _rows(penstock, "SELECT reason FROM _quarantine"))
    for name in ("health_keys", "Health_Keys", "health_schema_version"):
        assert f"{name!r} belongs to Penstock or to an application" in reasons
    with closing(sqlite3.connect(tmp_path / "penstock-data" / "penstock.db")) as connection:
        found = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]
    assert not set(LEGACY_TABLES) & set(found), "each application has tables of its own"
    listed = penstock("health", "keys", "list").stdout
    assert "phone" in listed
    assert "intruder" not in listed


@pytest.mark.server
def test_nor_do_they_in_postgresql(up, penstock, tmp_path: Path, postgis_database: str) -> None:
    _attack(up(PENSTOCK_DATABASE_URL=postgis_database), penstock, tmp_path, PENSTOCK_DATABASE_URL=postgis_database)
    with psycopg.connect(postgis_database) as connection:
        rows = connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        assert not set(LEGACY_TABLES) & {name for (name,) in rows}
