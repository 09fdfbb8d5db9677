from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.application import Installation
from penstock.platform.access import keyless
from penstock.platform.access.gate import Gate
from penstock.platform.access.keyless import KeyCheck
from penstock.platform.access.options import AccessOptions
from penstock.platform.database import Database

from .conftest import create, declared

SCOPE = {"type": "http", "method": "POST", "path": "/send/a", "path_params": {"table": "a"}, "client": ("127.0.0.1", 1)}


def _request(key: str = "") -> dict[str, Any]:
    return {**SCOPE, "headers": [(b"authorization", f"Bearer {key}".encode())] if key else []}


def _check(database: Database, data: Path, address: str = "127.0.0.1:8080") -> KeyCheck:
    gate = Gate(AccessOptions(), declared(), database)
    return KeyCheck(gate, "toys.ingest", Installation(data, address))


async def _close(check: KeyCheck) -> None:
    await check.close()
    async with check._gate.open():
        pass


async def test_no_key_is_needed_until_there_is_one_for_the_scope(
    any_database: Database, tmp_path: Path, audited: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyless, "CHECK_TTL", 0.0)
    check = _check(any_database, tmp_path)
    assert await check(_request()) is None
    await any_database.run(lambda c: create(c, scopes=["read"]))
    assert await check(_request()) is None, "a key that may not send here keeps nobody out"
    made = await any_database.run(lambda c: create(c, scopes=["ingest"]))
    denied = await check(_request())
    assert denied is not None
    assert denied.status == 401
    assert "--scope toys.ingest" in denied.reason
    assert await check(_request(made.secret)) is None
    assert await check(_request(made.secret)) is None
    assert [row["action"] for row in audited] == ["authentication_failed", "authentication_success"]
    assert audited[0]["resource"] == "POST /send/{table}"
    await _close(check)


async def test_beyond_loopback_a_key_is_always_needed(any_database: Database, tmp_path: Path, audited: Any) -> None:
    for address in ("0.0.0.0:8080", "[::]:8080", "192.0.2.1:80", "penstock.example:80"):
        check = _check(any_database, tmp_path, address)
        denied = await check(_request())
        assert denied is not None
        assert denied.status == 401
        await _close(check)


async def test_while_the_database_is_away_the_last_that_was_known_holds(tmp_path: Path, database: Database) -> None:
    gone = Database.of("postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=2")
    unknown = _check(gone, tmp_path)
    assert await unknown(_request()) is None, "what this machine sends is taken into the log"
    await _close(unknown)
    await database.run(lambda c: create(c, scopes=["ingest"]))
    known = _check(database, tmp_path)
    denied = await known(_request())
    assert denied is not None
    assert denied.status == 401
    await _close(known)
    again = _check(gone, tmp_path)
    denied = await again(_request())
    assert denied is not None, "it is known that a key is needed, also after a restart"
    await _close(again)
    gone.close()
