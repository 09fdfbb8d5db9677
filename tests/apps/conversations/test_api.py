"""The routes: for those with a key alone, and in the shapes that older viewers know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from penstock.apps.conversations.api.app import build
from penstock.apps.conversations.api.service import Service
from penstock.apps.conversations.prices import Prices
from penstock.apps.conversations.scopes import READ
from penstock.platform.access import keys, schema
from penstock.platform.access.gate import Gate
from penstock.platform.access.options import AccessOptions
from penstock.platform.access.scopes import Scopes

from .conftest import Stored, line

ADDRESS = "127.0.0.1:8080"
PRICES = Prices.load()


@pytest.fixture
def filled(stored: Stored) -> Stored:
    answer = {"id": "m", "model": "claude-sonnet-4", "usage": {"output_tokens": 9}, "content": "I will"}
    stored.write(
        "/logs/shop/a.jsonl",
        [
            line(content="mend it", uuid="1", sessionId="a"),
            line("assistant", message=answer, uuid="2", parentUuid="1", sessionId="a", at=60),
            b'{"type":"mode","mode":"plan"}',
            line(content=[{"type": "tool_result", "tool_use_id": "t", "content": "x"}], sessionId="a", at=61),
        ],
    )
    stored.write("/logs/blog/b.jsonl", [line(content=f"word{n}", sessionId="b", at=100 + n) for n in range(5)])
    stored.database.call(schema.metadata.create_all, changes=True)
    return stored


@pytest.fixture
async def client(filled: Stored) -> AsyncIterator[httpx.AsyncClient]:
    database = filled.database
    made = await database.run(lambda c: keys.create(c, name="k", scopes=[READ.name]), changes=True)
    async with Gate(AccessOptions(), Scopes([READ]), database).open() as gate:
        app = build(Service(database, PRICES), gate, ADDRESS)
        transport = httpx.ASGITransport(app)
        headers = {"authorization": f"Bearer {made.secret}"}
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{ADDRESS}", headers=headers) as client:
            yield client


async def get(client: httpx.AsyncClient, path: str, **asked: Any) -> Any:
    answer = await client.get(path, params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    "path",
    [
        "/api/projects",
        "/api/sessions?projectId=shop",
        "/api/conversations?projectId=shop",
        "/api/conversations/export?projectId=shop",
        "/api/stats?projectId=shop",
        "/api/conversations/search?q=x",
        "/api/conversations/projects",
        "/api/conversations/sessions",
        "/api/conversations/sessions/a/thread",
        "/api/conversations/usage",
    ],
)
async def test_nothing_is_told_to_those_without_a_key(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200
    assert (await client.get(path, headers={"authorization": ""})).status_code == 401


async def test_projects_and_sessions_are_listed_as_older_viewers_know_them(client: httpx.AsyncClient) -> None:
    assert await get(client, "/api/projects") == {"projects": ["blog", "shop"]}
    assert await get(client, "/api/sessions", projectId="shop") == {"sessions": ["a"]}
    assert (await client.get("/api/sessions")).status_code == 400


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_of_lines_hold_each_line_once_also_those_without_a_time(
    client: httpx.AsyncClient, order: str
) -> None:
    seen, cursor = [], None
    while True:
        asked = {"projectId": "shop", "limit": 1, "sortOrder": order} | ({"cursor": cursor} if cursor else {})
        page = await get(client, "/api/conversations", **asked)
        seen += page["data"]
        assert page["pagination"]["total"] == 4
        cursor = page["pagination"]["nextCursor"]
        if not page["pagination"]["hasMore"]:
            break
    assert len({one["_id"] for one in seen}) == len(seen) == 4
    types = [one["type"] for one in seen]
    assert types == (["user", "assistant", "mode", "user"] if order == "asc" else ["user", "mode", "assistant", "user"])
    assert {(one["projectId"], one["sourceFile"]) for one in seen} == {("shop", "/logs/shop/a.jsonl")}


async def test_an_export_is_what_the_list_shows_to_the_end_of_the_last_day(client: httpx.AsyncClient) -> None:
    asked = {"projectId": "blog", "startDate": "2025-10-09", "endDate": "2025-10-09"}
    listed = await get(client, "/api/conversations", **asked)
    exported = await get(client, "/api/conversations/export", **asked)
    assert [one["_id"] for one in exported] == [one["_id"] for one in listed["data"]]
    assert len(exported) == 5
    assert await get(client, "/api/conversations/export", projectId="none") == []


async def test_messages_are_counted_by_period_without_results_of_tools(client: httpx.AsyncClient) -> None:
    found = await get(client, "/api/stats", projectId="shop", granularity="day")
    assert found["meta"] == {"granularity": "day", "periodCount": 14, "totalMessages": 2}
    (day,) = found["data"]
    assert (day["period"], day["user"], day["assistant"]) == ("Oct 9", 1, 1)
    (week,) = (await get(client, "/api/stats", projectId="shop", granularity="week"))["data"]
    assert week["period"] == "2025-W41"


async def test_search_goes_on_from_page_to_page(client: httpx.AsyncClient) -> None:
    first = await get(client, "/api/conversations/search", q="word*", limit=3)
    rest = await get(client, "/api/conversations/search", q="word*", limit=3, cursor=first["next_cursor"])
    found = ["".join(hit["snippet"]) for hit in first["data"] + rest["data"]]
    assert found == ["word4", "word3", "word2", "word1", "word0"]
    assert rest["next_cursor"] is None


async def test_a_thread_and_its_use_are_found_by_the_session(client: httpx.AsyncClient) -> None:
    thread = await get(client, "/api/conversations/sessions/a/thread")
    assert [entry["uuid"] for entry in thread["data"]["entries"]] == ["1", "2"]
    (session,) = [one for one in (await get(client, "/api/conversations/sessions"))["data"] if one["id"] == "a"]
    assert (session["title"], session["prompts"], session["answers"], session["lines"]) == ("mend it", 1, 1, 4)
    (used,) = (await get(client, "/api/conversations/usage", by="session"))["data"]
    assert (used["key"], used["tokens"]["output"]) == ("a", 9)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/conversations/sessions/none/thread", 404),
        ("/api/conversations/search?q=-x", 400),
        ("/api/conversations/search?q=%20", 400),
        ("/api/conversations/usage?by=hour", 400),
        ("/api/conversations/usage?timezone=Mars/Olympus", 400),
        ("/api/conversations?projectId=shop&cursor=eHg=", 400),
        ("/api/conversations?projectId=shop&search=%22", 400),
        ("/api/conversations?projectId=shop&startDate=soon", 400),
        ("/api/conversations?projectId=shop&projct=x", 400),
    ],
)
async def test_what_cannot_be_asked_is_refused(client: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await client.get(path)
    assert answer.status_code == status
    assert answer.json()["message"]
