"""Keys, users, scopes and the audit over the API of the platform."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert

from penstock.platform.access import keys
from penstock.platform.access.audit import entry
from penstock.platform.access.schema import audit

from .conftest import Api


async def test_an_operator_makes_rotates_and_revokes_keys_of_all_users(api: Api) -> None:
    made = (await api("POST", "/keys", json={"name": "phone", "user": "anna", "scopes": ["toys.read"]})).json()["data"]
    assert made["user_name"] == "anna"
    assert made["scopes"] == ["toys.read"]
    me = await api("GET", "/me", key=made["key"])
    assert me.json()["data"]["user_name"] == "anna"
    rotated = (await api("POST", f"/keys/{made['prefix']}/rotate", json={"overlap": "1h"})).json()["data"]
    assert (await api("GET", "/me", key=made["key"])).status_code == 200
    assert (await api("GET", "/me", key=rotated["key"])).status_code == 200
    for key in (made, rotated):
        assert (await api("DELETE", f"/keys/{key['id']}")).json()["data"]["state"] == "revoked"
        assert (await api("GET", "/me", key=key["key"])).status_code == 401
    listed = (await api("GET", "/keys")).json()["data"]
    assert [key["name"] for key in listed] == ["phone", "phone", "operator"]
    assert all("key" not in key and "hash" not in key for key in listed)
    assert [user["name"] for user in (await api("GET", "/users")).json()["data"]] == ["anna", "me"]


async def test_a_key_without_scopes_sends_and_reads_nothing(api: Api) -> None:
    made = (await api("POST", "/keys", json={"name": "sensor"})).json()["data"]
    assert made["scopes"] == ["toys.send"]
    assert made["user_name"] == "me"
    for path in ("/keys", "/streams", "/users", "/scopes", "/audit", "/sessions", "/streams/a"):
        answer = await api("GET", path, key=made["key"])
        assert answer.status_code == 403, path


async def test_an_applications_administrator_sees_its_user_and_grants_its_scopes(api: Api) -> None:
    admin = await api.make("admin", scopes=["toys.admin"], user="anna")
    await api.make("other", scopes=["toys.read"], user="bert")
    assert [key["name"] for key in (await api("GET", "/keys", key=admin)).json()["data"]] == ["admin"]
    made = await api("POST", "/keys", key=admin, json={"name": "mine", "scopes": ["toys.read"], "user": "bert"})
    assert made.json()["data"]["user_name"] == "anna", "it may not choose the user"
    for scope in ("operator", "other.read"):
        answer = await api("POST", "/keys", key=admin, json={"name": "x", "scopes": [scope]})
        assert answer.status_code == 400
        assert "for operators" in answer.json()["message"]
    high = (await api.run(lambda c: keys.create(c, name="high", user="anna", scopes=["operator"]))).key
    bert = next(key for key in await api.run(keys.listed) if key.user_name == "bert")
    for key, status in ((high, 400), (bert, 404)):
        assert (await api("DELETE", f"/keys/{key.id}", key=admin)).status_code == status
        assert (await api("POST", f"/keys/{key.id}/rotate", key=admin)).status_code == status
    may = {one["name"]: one["may_grant"] for one in (await api("GET", "/scopes", key=admin)).json()["data"]}
    assert may == {
        "toys.send": True,
        "toys.read": True,
        "toys.admin": True,
        "other.read": False,
        "operator": False,
    }


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "x", "scopes": ["nothing"]},
        {"name": "x", "expires": "yesterday"},
        {"name": "x", "expires": "1999-01-01"},
        {"name": "x", "limits": {"toys.read": {"requests": 0}}},
        {"name": "x", "unknown": 1},
        {"name": "x", "user": "\x00"},
    ],
    ids=str,
)
async def test_a_key_that_cannot_be_is_refused(api: Api, body: Any) -> None:
    answer = await api("POST", "/keys", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["success"] is False


async def test_the_audit_is_read_page_by_page_by_who_may(api: Api) -> None:
    admin = await api.make("admin", scopes=["toys.admin"], user="anna")
    users = {user["name"]: user["id"] for user in (await api("GET", "/users")).json()["data"]}

    def write(connection: Any) -> None:
        for number in range(5):
            row = entry("test", "success", user=users["anna" if number == 3 else "me"], resource=str(number))
            connection.execute(insert(audit).values({name: getattr(row, name) for name in row.__struct_fields__}))

    await api.run(write)
    found, cursor = [], None
    while True:
        asked = {"limit": 2, "action": "test"} | ({"cursor": cursor} if cursor else {})
        page = (await api("GET", "/audit", params=asked)).json()
        found += [row["resource"] for row in page["data"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == ["4", "3", "2", "1", "0"]
    own = (await api("GET", "/audit", key=admin, params={"action": "test"})).json()["data"]
    assert [row["resource"] for row in own] == ["3"]


async def test_every_route_is_described_and_needs_a_key(api: Api) -> None:
    document = (await api("GET", "/openapi.json")).json()
    described = {(path, method) for path, operations in document["paths"].items() for method in operations}
    assert ("/api/platform/v1/streams/{id}/pause", "post") in described
    async with api.browser() as client:
        for path, method in described - {("/api/platform/v1/sessions", "post")}:
            answer = await client.request(method, path.replace("{id}", "a").replace("{key}", "a"))
            assert answer.status_code == 401, (method, path)
