from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from penstock.apps.health import schema
from penstock.apps.health.api.app import build
from penstock.apps.health.gate import gate_of
from penstock.apps.health.scopes import declared
from penstock.apps.health.service import Health
from penstock.apps.health.settings import Limit, Settings
from penstock.inputs.feed import Feed
from penstock.platform.access import keys
from penstock.platform.access import schema as access
from penstock.platform.access.audit import FEED
from penstock.platform.access.scopes import Scopes
from penstock.platform.database import Database
from penstock.testing.contexts import lend_context

SCOPES = Scopes(declared())


def create(connection: Any, *, scopes: Any = (), **given: Any) -> keys.Made:
    """Make a key as commands do."""
    scopes, limits = SCOPES.asked(scopes, "health"), SCOPES.limits(given.pop("limits", None))
    return keys.create(connection, **({"name": "phone"} | given), scopes=scopes, limits=limits)


@asynccontextmanager
async def written_down(database: Database, directory: Path) -> AsyncIterator[None]:
    """The stream of the audit, cut short: what is sent is in the table before it is settled."""

    async def take(reader: Any) -> None:
        while True:
            delivery = await reader.read()
            rows = delivery.batch.to_pylist()
            await database.run(lambda connection, rows=rows: connection.execute(insert(access.audit), rows))
            await delivery.ack()

    async with lend_context(directory) as context, Feed(name=FEED).open(context) as reader:
        taking = asyncio.create_task(take(reader))
        yield
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)


class Client:
    """A user with an admin key, at the API."""

    def __init__(self, database: Database, http: httpx.AsyncClient, made: keys.Made) -> None:
        self.database, self.http, self.made = database, http, made

    async def __call__(self, method: str, path: str, key: str | None = None, **given: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key or self.made.secret}"}
        return await self.http.request(method, f"/api/v1{path}", headers=headers, **given)

    async def other(self, **given: Any) -> keys.Made:
        return await self.database.run(lambda c: create(c, **({"user": "anna"} | given)))


@pytest.fixture(params=["sqlite", "postgres"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    url = (
        f"sqlite:///{tmp_path}/health.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    )
    database = Database.of(url)
    await database.run(lambda c: schema.metadata.create_all(c, tables=[schema.characteristics]))
    await database.run(access.metadata.create_all)
    made = await database.run(lambda c: create(c, name="administrator", scopes=["admin", "read", "operator"]))
    settings = Settings(failures=Limit(requests=5, bytes=1))
    gate = gate_of(settings, database)
    health = Health(settings=settings, database=database, access=database, raw=None, gate=gate, outcomes=None)  # type: ignore[arg-type]
    app = build(health, ["administration"])
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://penstock")
    async with gate.open(), http, written_down(database, tmp_path):
        yield Client(database, http, made)
    await asyncio.to_thread(database.close)


async def test_a_key_is_made_and_shown_once(api):
    answer = await api("POST", "/auth/keys", json={"name": "phone", "scopes": ["write"], "expires": "90d"})
    assert answer.status_code == 201
    data = answer.json()["data"]
    assert (data["name"], data["scopes"], data["user_name"]) == ("phone", ["ingest"], "me")
    assert data["expires_at"]
    assert answer.headers["cache-control"] == "no-store"
    assert (await api("GET", "/me", key=data["key"])).json()["data"]["key"] == data["id"]
    listed = await api("GET", "/auth/keys")
    assert [key["name"] for key in listed.json()["data"]] == ["phone", "administrator"]
    assert data["key"] not in listed.text
    assert "hash" not in listed.text


WRONG = [
    {},
    {"name": ""},
    {"name": "x" * 101},
    {"name": "a\u0000b"},
    {"name": "phone", "scopes": ["all"]},
    {"name": "phone", "scopes": "read"},
    {"name": "phone", "expires": "2020-01-01"},
    {"name": "phone", "expires_at": "soon"},
    {"name": "phone", "limits": {"read": {"requests": 0}}},
    {"name": "phone", "limits": {"read": {"speed": 1}}},
    {"name": "phone", "user": "anna"},
    [],
    None,
]


async def test_a_key_that_is_not_well_asked_for_is_400(api):
    for body in WRONG:
        answer = await api("POST", "/auth/keys", json=body)
        assert answer.status_code == 400, body
        assert answer.json()["error"] == "validation_error"
        assert answer.json()["success"] is False
    assert len((await api("GET", "/auth/keys")).json()["data"]) == 1


async def test_garbage_and_floods_are_refused(api):
    for content in (b"", b"{", b"\xff\xfe", b"[" * 10_000):
        assert (await api("POST", "/auth/keys", content=content)).status_code == 400
    assert (await api("POST", "/auth/keys", content=b" " * 100_000)).status_code == 413


async def test_keys_need_the_scope_admin(api):
    other = await api.other(user="me")
    for method, path in [
        ("POST", "/auth/keys"),
        ("GET", "/auth/keys"),
        ("POST", f"/auth/keys/{other.key.id}/rotate"),
        ("DELETE", f"/auth/keys/{other.key.id}"),
        ("GET", "/admin/audit"),
        ("GET", "/admin/logging/level"),
        ("PUT", "/admin/logging/level"),
        ("GET", "/admin/logging/stats"),
        ("POST", "/admin/logging/test"),
        ("GET", "/admin/characteristics/stats"),
    ]:
        answer = await api(method, path, key=other.secret)
        needed = "operator" if "/logging/" in path else "admin"
        assert (answer.status_code, answer.json()["scope"]) == (403, needed)


async def test_a_key_is_revoked_at_once(api):
    made = (await api("POST", "/auth/keys", json={"name": "phone"})).json()["data"]
    assert (await api("GET", "/me", key=made["key"])).status_code == 200
    answer = await api("DELETE", f"/auth/keys/{made['id']}")
    assert (answer.status_code, answer.json()["data"]["state"]) == (200, "revoked")
    assert (await api("GET", "/me", key=made["key"])).status_code == 401


async def test_a_key_is_replaced_with_an_overlap(api):
    old = (await api("POST", "/auth/keys", json={"name": "phone"})).json()["data"]
    answer = await api("POST", f"/auth/keys/{old['prefix']}/rotate", json={"overlap": "24h"})
    assert answer.status_code == 201
    new = answer.json()["data"]
    assert new["name"] == "phone"
    for made in (old, new):
        assert (await api("GET", "/me", key=made["key"])).status_code == 200
    answer = await api("POST", f"/auth/keys/{new['id']}/rotate")
    assert answer.status_code == 201
    assert (await api("GET", "/me", key=new["key"])).status_code == 401
    assert (await api("POST", f"/auth/keys/{old['id']}/rotate")).status_code == 400
    answer = await api("POST", f"/auth/keys/{old['id']}/rotate", json={"overlap": "soon"})
    assert answer.status_code == 400
    assert "expected a duration" in answer.json()["message"]


async def test_nobody_touches_the_keys_of_another_user(api):
    other = await api.other()
    assert [key["name"] for key in (await api("GET", "/auth/keys")).json()["data"]] == ["administrator"]
    assert (await api("DELETE", f"/auth/keys/{other.key.id}")).status_code == 404
    assert (await api("DELETE", f"/auth/keys/{other.key.prefix}")).status_code == 404
    assert (await api("POST", f"/auth/keys/{other.key.id}/rotate")).status_code == 404
    assert (await api("GET", "/me", key=other.secret)).status_code == 200


async def test_a_key_that_is_not_there_is_404_or_400(api):
    for id in ("nothing", "hea_00000000", "x" * 500, "%00", "a%2Fb", "'--", "é"):
        for method, path in [("DELETE", f"/auth/keys/{id}"), ("POST", f"/auth/keys/{id}/rotate")]:
            answer = await api(method, path)
            assert answer.status_code in (400, 404), id
            assert answer.json()["success"] is False


@pytest.mark.parametrize("scopes", [["operator"], ["health.ingest", "inbox.send"]])
async def test_an_administrator_gets_no_scope_of_others(api, scopes):
    """Not by making a key, nor by replacing one that has more than its own; an operator may."""
    administrator = await api.other(scopes=["admin"])
    high = await api.database.run(lambda c: keys.create(c, name="high", user="anna", scopes=scopes))
    for method, path, sent in [
        ("POST", "/auth/keys", {"name": "mine", "scopes": ["operator"]}),
        ("POST", f"/auth/keys/{high.key.id}/rotate", {"overlap": "24h"}),
        ("POST", f"/auth/keys/{high.key.prefix}/rotate", None),
        ("DELETE", f"/auth/keys/{high.key.id}", None),
    ]:
        answer = await api(method, path, key=administrator.secret, json=sent)
        assert answer.status_code == 400
        assert "for operators" in answer.json()["message"]
        assert "secret" not in answer.text
    found = await api.database.run(lambda c: keys.listed(c, user=high.key.user))
    assert sorted(key.name for key in found) == ["high", "phone"]
    assert all(key.state == "active" for key in found)
    both = await api.other(scopes=["admin", "operator"])
    answer = await api("POST", f"/auth/keys/{high.key.id}/rotate", key=both.secret)
    assert answer.status_code == 201


async def test_a_caller_sees_its_limits_without_using_them_up(api):
    made = await api.other(limits={"ingest": {"requests": 7}})
    for used in (1, 2):
        answer = await api("GET", "/auth/rate-limit", key=made.secret)
        data = answer.json()["data"]
        assert set(data) == {"ingest", "read", "export", "admin"}
        assert (data["read"]["limit"], data["read"]["remaining"]) == (100, 100 - used)
        assert (data["ingest"]["limit"], data["ingest"]["remaining"]) == (7, 7)
        assert data["ingest"]["allowance"]["remaining"] == 5000
        assert data["export"]["window"] == 3600


async def test_a_caller_sees_who_it_is(api):
    made = await api.other(scopes=["ingest"])
    data = (await api("GET", "/me", key=made.secret)).json()["data"]
    assert data == {
        "user": made.key.user,
        "user_name": "anna",
        "key": made.key.id,
        "key_name": "phone",
        "scopes": ["ingest"],
        "expires_at": None,
    }


async def test_what_was_done_is_in_the_audit(api):
    made = (await api("POST", "/auth/keys", json={"name": "phone"})).json()["data"]
    await api("DELETE", f"/auth/keys/{made['id']}")
    await api("DELETE", "/auth/keys/nothing")
    await api("POST", "/auth/keys", json={"name": "phone", "scopes": ["all"]})
    rows = (await api("GET", "/admin/audit")).json()["data"]
    done = [(row["action"], row["outcome"]) for row in rows if not row["action"].startswith("authentication")]
    assert done == [
        ("api_key_creation_failed", "refused"),
        ("api_key_revoke_failed", "refused"),
        ("api_key_revoked", "success"),
        ("api_key_created", "success"),
    ]
    created = next(row for row in rows if row["action"] == "api_key_created")
    assert created["resource"] == made["id"]
    assert created["details"]["name"] == "phone"
    assert created["key_id"] == api.made.key.id
    assert len([row for row in rows if row["action"] == "authentication_success"]) >= 4
    assert made["key"][12:] not in json.dumps(rows)


async def test_the_audit_is_read_page_by_page(api):
    for _ in range(6):
        await api("GET", "/me")
    seen, cursor = [], None
    while True:
        given = {"limit": 2, "action": "authentication_success"} | ({"cursor": cursor} if cursor else {})
        answer = (await api("GET", "/admin/audit", params=given)).json()
        seen += [row["id"] for row in answer["data"]]
        cursor = answer["next_cursor"]
        if cursor is None or len(seen) > 50:
            break
    assert len(seen) == len(set(seen))
    assert 6 <= len(seen) <= 20
    assert seen == sorted(seen, reverse=True)
    for wrong in ({"cursor": "garbage"}, {"limit": 0}, {"limit": 100_000}, {"acton": "x"}, {"action": "'"}):
        assert (await api("GET", "/admin/audit", params=wrong)).status_code == 400


async def test_a_user_sees_the_audit_of_its_own_only(api):
    other = await api.other(scopes=["admin"])
    await api("GET", "/me")
    await api("GET", "/me", key=other.secret)
    await api("GET", "/me", key=other.key.prefix + "0" * 32)
    mine = (await api("GET", "/admin/audit")).json()["data"]
    theirs = (await api("GET", "/admin/audit", key=other.secret)).json()["data"]
    assert {row["key_id"] for row in mine} == {api.made.key.id}
    assert {row["key_id"] for row in theirs} == {other.key.id}
    assert "authentication_failed" in {row["action"] for row in theirs}, "attempts on its keys too"


@pytest.fixture
def log_level():
    logger = logging.getLogger("penstock")
    level = logger.level
    yield logger
    logger.setLevel(level)


async def test_the_level_of_the_log_is_changed_while_it_runs(api, log_level):
    assert (await api("PUT", "/admin/logging/level", json={"level": "warning"})).json()["data"] == {"level": "warning"}
    assert not logging.getLogger("penstock.health").isEnabledFor(logging.INFO)
    assert (await api("GET", "/admin/logging/level")).json()["data"] == {"level": "warning"}
    assert (await api("POST", "/admin/logging/test", json={"level": "info"})).json()["data"]["logged"] is False
    assert (await api("PUT", "/admin/logging/level", json={"level": "debug"})).status_code == 200
    assert (await api("POST", "/admin/logging/test", json={"level": "debug"})).json()["data"]["logged"] is True
    for wrong in ({"level": "loud"}, {"level": 10}, {}, []):
        assert (await api("PUT", "/admin/logging/level", json=wrong)).status_code == 400
    actions = [row["action"] for row in (await api("GET", "/admin/audit")).json()["data"]]
    assert actions.count("log_level_changed") == 2
    assert actions.count("log_tested") == 2


async def test_lines_are_counted_and_a_test_line_is_one_line(api, log_level, caplog):
    log_level.addHandler(logging.NullHandler())
    before = (await api("GET", "/admin/logging/stats")).json()["data"]
    answer = await api("POST", "/admin/logging/test", json={"level": "warning", "message": "one\ntwo"})
    assert answer.json()["data"] == {"level": "warning", "logged": True}
    after = (await api("GET", "/admin/logging/stats")).json()["data"]
    assert after["lines"]["warning"] == before["lines"]["warning"] + 1
    assert after["since"] == before["since"]
    (line,) = [record.getMessage() for record in caplog.records if "test line" in record.getMessage()]
    assert "\n" not in line
    assert (await api("POST", "/admin/logging/test", json={"message": "x" * 201})).status_code == 400


async def test_characteristics_are_counted(api):
    empty = {"count": 0, "updated_at": None, "verified_at": None}
    assert (await api("GET", "/admin/characteristics/stats")).json()["data"] == empty
    row = {
        "user_id": api.made.key.user,
        "values": json.dumps({"sex": "female", "height": None, "skin_type": 2}),
        "updated_at": datetime(2026, 2, 3, tzinfo=UTC),
    }
    await api.database.run(lambda c: c.execute(insert(schema.characteristics), [row]))
    data = (await api("GET", "/admin/characteristics/stats")).json()["data"]
    assert data["count"] == 2
    assert datetime.fromisoformat(data["updated_at"]) == row["updated_at"]


async def test_l17_keys_limits_and_audit_are_wired_into_the_app(api):
    """The routes of keys exist, a key opens the app, its limit is counted, and all of it is in the audit."""
    made = (await api("POST", "/auth/keys", json={"name": "phone", "limits": {"read": {"requests": 2}}})).json()["data"]
    answer = await api("GET", "/me", key=made["key"])
    assert (answer.status_code, answer.headers["x-ratelimit-remaining"]) == (200, "1")
    assert answer.headers["x-request-id"]
    assert (await api("GET", "/me", key=made["key"])).headers["x-ratelimit-remaining"] == "0"
    assert (await api("GET", "/me", key="hea_" + "0" * 40)).status_code == 401
    rows = (await api("GET", "/admin/audit")).json()["data"]
    assert len([row for row in rows if row["key_id"] == made["id"]]) == 2


async def test_the_routes_are_described(api):
    described = (await api.http.get("/api/v1/openapi.json")).json()["paths"]
    assert {"get", "post"} == set(described["/api/v1/auth/keys"])
    for path, methods in described.items():
        for operation in methods.values():
            assert operation.get("description"), path
            assert {"401", "403", "429"} <= set(operation["responses"]), path
    assert "201" in described["/api/v1/auth/keys"]["post"]["responses"]
