"""Keys of older versions go on to work, and rows that arrive later where they were are never taken."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text

from penstock.application import Installation
from penstock.apps.health.application import Health
from penstock.apps.health.store.migrations import SCRIPTS, VERSION_TABLE
from penstock.errors import ConfigError
from penstock.platform.access import hashing, keys
from penstock.platform.access.legacy import prepare
from penstock.platform.access.lookup import Lookup, State
from penstock.platform.database import Database
from penstock.platform.migration import migrate
from penstock.platform.ownership import database_of, rows_database
from penstock.runtime.logfolder import hold

SECRET = "hea_deadbeef" + "0123456789abcdef" * 2
FORGED = "hea_f0f0f0f0" + "0" * 32
CREATED = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
_MOMENT = {"sqlite": "TEXT", "postgresql": "TIMESTAMP WITH TIME ZONE"}
_SERIAL = {"sqlite": "INTEGER", "postgresql": "BIGSERIAL"}


def _tables(dialect: str) -> list[str]:
    """Return the statements by which the last version made these tables."""
    moment, serial = _MOMENT[dialect], _SERIAL[dialect]
    return [
        f"CREATE TABLE health_users (id {serial} NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, "
        f"created_at {moment} NOT NULL)",
        "CREATE TABLE health_keys (id TEXT NOT NULL PRIMARY KEY, user_id BIGINT NOT NULL REFERENCES health_users (id), "
        "prefix TEXT NOT NULL UNIQUE, hash TEXT NOT NULL, name TEXT NOT NULL, scopes TEXT NOT NULL, "
        f"created_at {moment} NOT NULL, expires_at {moment}, revoked_at {moment}, last_used_at {moment}, "
        "replaced_by TEXT, limits TEXT)",
        f"CREATE TABLE health_audit (id TEXT NOT NULL PRIMARY KEY, time {moment} NOT NULL, user_id BIGINT, "
        "key_id TEXT, "
        "action TEXT NOT NULL, outcome TEXT NOT NULL, resource TEXT, address TEXT, user_agent TEXT, request_id TEXT, "
        "details TEXT)",
    ]


class Old:
    """The database of an installation that an older version has filled."""

    def __init__(self, installation: Installation, *, is_own: bool) -> None:
        self.installation = installation
        own = database_of(installation, "health")
        self.place = own if is_own else Database(rows_database(installation), schema="public")

    @property
    def dialect(self) -> str:
        return "postgresql" if self.place.is_postgres else "sqlite"

    def fill(self, user: int = 41, secret: str = SECRET, prefix: str = "deadbeef") -> None:
        """Make the tables with a user, a key and a row of the audit."""
        self.run(*_tables(self.dialect))
        self.put(user, secret, prefix)

    def put(self, user: int, secret: str, prefix: str, scopes: str = '["ingest", "read"]') -> None:
        moment = CREATED.isoformat() if self.dialect == "postgresql" else "2026-01-02 03:04:05.678901Z"
        user_row = {"id": user, "name": f"anna{user}", "at": moment}
        row = {"id": f"k-{prefix}", "user": user, "prefix": prefix, "hash": hashing.hashed(secret), "at": moment}
        row |= {"scopes": scopes, "limits": json.dumps({"ingest": {"requests": 7}})}
        columns = "(id, user_id, prefix, hash, name, scopes, created_at, limits)"
        values = "(:id, :user, :prefix, :hash, 'phone', :scopes, :at, :limits)"
        audited = "(id, time, user_id, action, outcome) VALUES (:id, :at, :user, 'a', 'success')"
        with closing(self.place), self.place.pool.connect() as connection, connection.begin():
            connection.execute(text("INSERT INTO health_users VALUES (:id, :name, :at)"), user_row)
            connection.execute(text(f"INSERT INTO health_keys {columns} VALUES {values}"), row)
            connection.execute(text(f"INSERT INTO health_audit {audited}"), {**row, "id": f"a-{prefix}"})

    def run(self, *statements: str) -> None:
        with closing(self.place), self.place.pool.connect() as connection, connection.begin():
            if self.place.schema is not None:
                connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {self.place.schema}"))
            for statement in statements:
                connection.execute(text(statement))

    def tables(self) -> set[str]:
        with closing(self.place):
            return set(self.place.call(_names))


def _names(connection: Any) -> list[str]:
    schema = None if connection.dialect.name == "sqlite" else connection.scalar(text("SELECT current_schema()"))
    return [name for name in inspect(connection).get_table_names(schema) if name.startswith("health_")]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Installation:
    url = request.getfixturevalue("postgis_database") if request.param == "postgresql" else ""
    (tmp_path / "data").mkdir()
    return Installation(tmp_path / "data", database=url)


@pytest.fixture(params=["beside the rows", "among health's own"])
def old(request: pytest.FixtureRequest, installation: Installation) -> Old:
    """Return tables that health made with its own, so that the rest of them moves too."""
    made = Old(installation, is_own=request.param != "beside the rows")

    with closing(made.place):
        migrate(made.place, SCRIPTS, VERSION_TABLE, requires=["postgis"])
    made.fill()
    return made


def _prepare(installation: Installation) -> None:
    health = Health()
    assert health.needs(installation) == ["access"]
    prepare(installation)
    health.prepare(installation)


def _listed(installation: Installation) -> list[keys.Key]:
    with closing(database_of(installation, "platform")) as database:
        return database.call(keys.listed)


def test_old_keys_go_on_to_work_with_their_users_and_scopes(old: Old) -> None:
    for _ in range(2):
        _prepare(old.installation)
        (key,) = _listed(old.installation)
        assert (key.user, key.user_name, key.prefix) == (41, "anna41", "hea_deadbeef")
        assert key.scopes == ("health.ingest", "health.read")
        assert key.created_at == CREATED
    assert not old.tables() & {"health_users", "health_keys", "health_audit"}, "nothing is left where it was"
    with closing(database_of(old.installation, "platform")) as database:
        state = asyncio.run(_find(database, SECRET))
        assert state is not None
        assert hashing.matches(state.hash, SECRET)
        assert (state.user, state.limits) == (41, {"health.ingest": {"requests": 7}})
        rows = database.call(lambda c: c.execute(text("SELECT id, user_id FROM penstock_audit")).all())
        assert [tuple(row) for row in rows] == [("a-deadbeef", 41)]
        made = database.call(lambda c: keys.create(c, name="x", user="ben", scopes=["health.read"]))
        assert made.key.user > 41, "ids are not given twice"


async def _find(database: Database, secret: str) -> State | None:
    lookup = Lookup(database)
    try:
        return await lookup.find(keys.prefix_of(secret) or "")
    finally:
        await lookup.close()


def test_rows_that_arrive_later_in_the_old_place_are_never_taken(installation: Installation) -> None:
    """A stranger may have written there what an older version would have taken for keys."""
    _prepare(installation)
    for is_own in (False, True):
        forger = Old(installation, is_own=is_own)
        forger.run(*([] if "health_schema_version" in forger.tables() else [_MARKER]))
        forger.fill(7 + is_own, FORGED, "f0f0f0f0")
        for _ in range(2):
            prepare(installation)
            assert _listed(installation) == []


def test_rows_that_arrive_after_the_old_ones_were_taken_are_never_taken(old: Old) -> None:
    _prepare(old.installation)
    forger = Old(old.installation, is_own=False)
    forger.run(*([] if "health_schema_version" in forger.tables() else [_MARKER]))
    forger.fill(7, FORGED, "f0f0f0f0")
    prepare(old.installation)
    assert [key.prefix for key in _listed(old.installation)] == ["hea_deadbeef"]


def test_tables_without_those_of_health_beside_them_are_not_taken(installation: Installation) -> None:
    forger = Old(installation, is_own=False)
    forger.fill(7, FORGED, "f0f0f0f0")
    _prepare(installation)
    assert _listed(installation) == []
    assert "health_keys" in forger.tables(), "they may be the user's own"


_MARKER = "CREATE TABLE health_schema_version (version_num TEXT)"


def test_a_crash_between_taking_and_dropping_is_made_good(old: Old) -> None:
    _prepare(old.installation)
    own = Old(old.installation, is_own=True)
    own.fill(41)
    _prepare(old.installation)
    assert [key.user for key in _listed(old.installation)] == [41]
    assert "health_keys" not in own.tables()


def test_nothing_is_taken_while_an_older_version_runs(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    old = Old(installation, is_own=False)
    old.run(_MARKER)
    old.fill()
    with hold(tmp_path / "wal" / "health"), pytest.raises(ConfigError, match="in use by another process"):
        prepare(installation)
    assert "health_keys" in old.tables()


def test_what_the_log_of_the_audit_holds_is_kept_under_its_new_name(tmp_path: Path) -> None:
    (tmp_path / "wal" / "health-audit").mkdir(parents=True)
    (tmp_path / "wal" / "health-audit" / "0001.log").write_bytes(b"rows")
    for _ in range(2):
        prepare(Installation(tmp_path))
        assert (tmp_path / "wal" / "platform-audit" / "0001.log").read_bytes() == b"rows"
        assert not (tmp_path / "wal" / "health-audit").exists()
