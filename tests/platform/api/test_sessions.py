"""People sign in with a link or a key; what a page of another origin has a browser send, uses no session."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from penstock.platform.access import keys, schema
from penstock.platform.access.request import redact

from .conftest import ADDRESS, OWN, Api

ROOT = "/api/platform/v1"


async def sign_in(client: Any, **by: str) -> Any:
    return await client.post(f"{ROOT}/sessions", json=by, headers=OWN)


async def test_a_link_is_good_for_one_session(api: Api) -> None:
    token = await api.link()
    async with api.browser() as client, api.browser() as other:
        answer = await sign_in(client, link=token)
        assert answer.status_code == 201, answer.text
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("penstock_session_8080=pes_")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        assert "Secure" not in cookie
        assert "pes_" not in answer.text
        assert token not in answer.text
        me = (await client.get(f"{ROOT}/me")).json()["data"]
        assert me["scopes"] == ["operator"]
        assert me["key"] is None
        assert (await sign_in(other, link=token)).status_code == 401
        assert (await other.get(f"{ROOT}/me")).status_code == 401


async def test_a_key_signs_in_and_takes_its_sessions_with_it(api: Api) -> None:
    secret = await api.make("phone", scopes=["toys.read"], user="anna")
    async with api.browser() as client:
        answer = await sign_in(client, key=secret)
        assert answer.status_code == 201
        assert secret not in answer.text
        assert (await client.get(f"{ROOT}/me")).json()["data"]["user_name"] == "anna"
        assert (await client.get(f"{ROOT}/streams")).status_code == 403, "a session has the scopes of its key"
        assert (await api("DELETE", f"/keys/{secret[:12]}")).status_code == 200
        assert (await client.get(f"{ROOT}/me")).status_code == 401


@pytest.mark.parametrize(
    "by", [{}, {"key": "a", "link": "b"}, {"key": ""}, {"link": "x" * 300}, {"link": "a", "user": "me"}, [], "x", None]
)
async def test_what_says_not_by_what_somebody_signs_in_is_refused(api: Api, by: Any) -> None:
    async with api.browser() as client:
        answer = await client.post(f"{ROOT}/sessions", json=by, headers=OWN)
        assert answer.status_code == 400, answer.text
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("field", ["key", "link"])
@pytest.mark.parametrize("text", ["x", "pel_" + "0" * 32, "pen_" + "0" * 40, "' OR 1=1 --", "\x00", "é"])
async def test_a_wrong_key_or_link_is_401(api: Api, field: str, text: str) -> None:
    async with api.browser() as client:
        assert (await sign_in(client, **{field: text})).status_code == 401


async def test_guessing_links_is_limited_by_address(api: Api) -> None:
    limit = api.gate.options.failures.requests
    async with api.browser() as client:
        for number in range(limit):
            assert (await sign_in(client, link=f"pel_{number:032x}")).status_code == 401
        right = await api.link()
        assert (await sign_in(client, link="pel_" + "0" * 32)).status_code == 429
        assert (await sign_in(client, link=right)).status_code == 429


@pytest.mark.parametrize(
    "sent",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "x-penstock": "1"},
        {"origin": "http://127.0.0.1:9999", "x-penstock": "1"},
        {"origin": "null", "x-penstock": "1"},
        {"origin": "http://rebound.example:8080", "host": "rebound.example:8080", "x-penstock": "1"},
        {},
    ],
    ids=str,
)
async def test_pages_of_other_origins_use_no_session_and_begin_none(api: Api, sent: dict[str, str]) -> None:
    async with api.browser() as client:
        assert (await client.post(f"{ROOT}/sessions", json={"link": await api.link()}, headers=sent)).status_code == 403
        assert (await sign_in(client, link=await api.link())).status_code == 201
        for method, path in [("POST", "/keys"), ("DELETE", "/sessions/current"), ("POST", "/streams/a/pause")]:
            answer = await client.request(method, f"{ROOT}{path}", json={"name": "planted"}, headers=sent)
            assert answer.status_code == 403, path
        if "sec-fetch-site" in sent:
            assert (await client.get(f"{ROOT}/keys", headers=sent)).status_code == 403
        assert "access-control-allow-origin" not in (await client.get(f"{ROOT}/keys")).headers
        assert (await client.get(f"{ROOT}/me")).status_code == 200
    assert [key.name for key in await api.run(keys.listed)] == ["operator"]


async def test_a_session_ends_by_age_by_idleness_and_by_revoking(api: Api) -> None:
    columns = schema.sessions.c
    past = datetime.now(UTC) - timedelta(hours=13)
    for ended in ({columns.expires_at: past}, {columns.last_seen_at: past}, {columns.revoked_at: past}):
        async with api.browser() as client:
            begun = (await sign_in(client, link=await api.link())).json()["data"]
            assert (await client.get(f"{ROOT}/me")).status_code == 200
            change = update(schema.sessions).where(columns.id == begun["id"]).values(ended)
            await api.run(lambda c, change=change: c.execute(change))
            answer = await client.get(f"{ROOT}/me")
            assert answer.status_code == 401
            assert "ended" in answer.json()["message"]
    assert (await api("GET", "/sessions")).json()["data"] == []


async def test_an_operator_lists_and_ends_sessions_and_anybody_ends_the_own_one(api: Api) -> None:
    phone = await api.make("phone", scopes=["toys.read"], user="anna")
    async with api.browser() as client, api.browser() as other:
        one = (await sign_in(client, key=phone)).json()["data"]
        await sign_in(other, link=await api.link())
        assert (await client.get(f"{ROOT}/sessions")).status_code == 403
        assert (await client.delete(f"{ROOT}/sessions/{one['id']}", headers=OWN)).status_code == 403
        listed = (await other.get(f"{ROOT}/sessions")).json()["data"]
        assert {row["user_name"] for row in listed} == {"me", "anna"}
        assert "hash" not in json.dumps(listed)
        assert (await other.delete(f"{ROOT}/sessions/{one['id']}", headers=OWN)).status_code == 200
        assert (await other.delete(f"{ROOT}/sessions/{one['id']}", headers=OWN)).status_code == 404
        assert (await client.get(f"{ROOT}/me")).status_code == 401
        out = await other.delete(f"{ROOT}/sessions/current", headers=OWN)
        assert out.status_code == 200
        assert "Max-Age=0" in out.headers["set-cookie"]
        assert (await other.get(f"{ROOT}/me")).status_code == 401
    assert (await api("DELETE", "/sessions/current")).status_code == 400, "a key has none"


async def test_under_tls_the_cookie_is_kept_from_plain_http(api: Api) -> None:
    async with api.browser(f"https://{ADDRESS}") as client:
        answer = await sign_in(client, link=await api.link())
        assert answer.headers["set-cookie"].startswith("__Host-penstock_session_8080=pes_")
        assert "Secure" in answer.headers["set-cookie"].split("; ")
        assert (await client.get(f"{ROOT}/me")).status_code == 200


async def test_cookies_of_other_installations_on_this_host_do_no_harm(api: Api) -> None:
    async with api.browser() as client:
        token = (await sign_in(client, link=await api.link())).headers["set-cookie"].partition(";")[0]
        client.cookies.clear()
        foreign = "penstock_session_9000=pes_" + "0" * 64
        for cookie in (f"{foreign}; {token}", f"a=b; {token}; {foreign}", f"{token}; x"):
            assert (await client.get(f"{ROOT}/me", headers={"cookie": cookie})).status_code == 200, cookie
        for cookie in (foreign, token.replace("_8080", "_x"), token[:-1], token.upper(), "penstock_session_8080="):
            assert (await client.get(f"{ROOT}/me", headers={"cookie": cookie})).status_code == 401, cookie


async def test_only_hashes_are_stored_and_tokens_are_redacted(api: Api) -> None:
    link = await api.link()
    async with api.browser() as client:
        token = (await sign_in(client, link=link)).headers["set-cookie"].partition(";")[0].partition("=")[2]
    for table in (schema.links, schema.sessions):
        stored = str(await api.run(lambda c, table=table: c.execute(select(table)).mappings().all()))
        assert link not in stored
        assert token not in stored
    assert redact(f"/x/{link}/{token}") == f"/x/{link[:12]}.../{token[:12]}..."


async def test_an_old_link_is_refused_and_sessions_that_ended_long_ago_are_forgotten(api: Api) -> None:
    old = await api.link(ttl=0.0)
    past = datetime.now(UTC) - timedelta(days=31)
    async with api.browser() as client:
        assert (await sign_in(client, link=old)).status_code == 401
        await sign_in(client, link=await api.link())
        await api.run(lambda c: c.execute(update(schema.sessions).values(expires_at=past)))
        await api.run(lambda c: c.execute(update(schema.links).values(expires_at=past)))
        await sign_in(client, link=await api.link())
    for table in (schema.links, schema.sessions):
        assert len(await api.run(lambda c, table=table: c.execute(select(table)).all())) == 1
