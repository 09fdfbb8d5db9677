"""Tables are made anew from the bodies, wherever those are kept."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select

from penstock.application import Installation
from penstock.apps.health.acceptance import Accepted
from penstock.apps.health.raw import Raw
from penstock.apps.health.rebuilding import rebuild
from penstock.apps.health.schema import points
from penstock.apps.health.settings import Settings
from penstock.apps.health.store.migrations import migrate
from penstock.errors import ConfigError
from penstock.identifiers import new_id
from penstock.platform.database import Database
from penstock.runtime.logfolder import hold

MOMENT = datetime(2026, 2, 3, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database.of(f"sqlite:///{tmp_path}/penstock-health.db")
    migrate(database)
    return database


async def _keep(raw: Raw) -> None:
    data = [{"date": f"2026-02-03 07:{minute:02}:00 +0100", "qty": minute} for minute in range(30)]
    body = json.dumps({"data": {"metrics": [{"name": "step_count", "units": "count", "data": data}]}}).encode()
    async with raw.receive(ingest := new_id()) as writing:
        await writing.write(body)
        await writing.keep(Accepted(id=ingest, user=1, received_at=MOMENT, raw="", bytes=0, sha256=""))


def _count(database: Database) -> int:
    return database.call(lambda connection: connection.execute(select(func.count()).select_from(points)).scalar_one())


def test_bodies_in_an_object_store_are_processed_again(
    database: Database, tmp_path: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"s3://penstock/{tmp_path.name}/raw"
    settings = {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "ENDPOINT": s3_endpoint, "ALLOW_HTTP": "true"}
    for name, value in (settings | {"REGION": "us-east-1"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("PENSTOCK_HEALTH_RAW_URL", where)
    asyncio.run(_keep(Raw.of(Settings(data=tmp_path, raw_url=where))))
    for _ in range(2):
        assert rebuild(database, Installation(tmp_path)) == "1 bodies are processed again"
        assert _count(database) == 30


def test_nothing_is_emptied_while_the_service_runs(database: Database, tmp_path: Path) -> None:
    asyncio.run(_keep(Raw.of(Settings(data=tmp_path))))
    rebuild(database, Installation(tmp_path))
    with hold(tmp_path / "wal" / "health"), pytest.raises(ConfigError, match="in use by another process"):
        rebuild(database, Installation(tmp_path), lambda: pytest.fail("it asks though it cannot go on"))
    assert _count(database) == 30


def test_nothing_is_emptied_unless_that_is_confirmed(database: Database, tmp_path: Path) -> None:
    def refuse() -> None:
        raise KeyboardInterrupt

    asyncio.run(_keep(Raw.of(Settings(data=tmp_path))))
    rebuild(database, Installation(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        rebuild(database, Installation(tmp_path), refuse)
    assert _count(database) == 30
