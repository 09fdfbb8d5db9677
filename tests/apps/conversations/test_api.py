"""The routes: for those with a key alone, and in the shapes that older viewers know."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from penstock.apps.conversations.analytics.settings import Settings, read_settings
from penstock.apps.conversations.api.app import build
from penstock.apps.conversations.api.live import Watch
from penstock.apps.conversations.api.service import Service
from penstock.apps.conversations.prices import Prices
from penstock.apps.conversations.redaction import Redaction
from penstock.apps.conversations.scopes import READ
from penstock.platform.access import keys, schema
from penstock.platform.access.gate import Gate
from penstock.platform.access.options import AccessOptions
from penstock.platform.access.scopes import Scopes
from penstock.platform.web.events import LiveState

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
def settings(tmp_path: Path) -> Settings:
    return read_settings(tmp_path, {})


@pytest.fixture
async def client(filled: Stored, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    database = filled.database
    made = await database.run(lambda c: keys.create(c, name="k", scopes=[READ.name]), changes=True)
    async with Gate(AccessOptions(), Scopes([READ]), database).open() as gate:
        live = LiveState("session", Watch(database).look, asyncio.Event(), interval=0.05)
        app = build(Service(database, PRICES, Redaction(), settings, live), gate, ADDRESS)
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
        "/api/conversations/drift",
        "/api/conversations/activity",
        "/api/conversations/download",
    ],
)
async def test_nothing_is_told_to_those_without_a_key(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200
    assert (await client.get(path, headers={"authorization": ""})).status_code == 401


async def test_nobody_watches_without_a_key(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/conversations/live", headers={"authorization": ""})).status_code == 401


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


def download(client: httpx.AsyncClient, **asked: str) -> Any:
    return client.get("/api/conversations/download", params=asked)


HOSTILE = '=cmd() <script>alert(1)</script> \x1b[31mred \u202e ``` "quoted"'


async def test_every_kind_of_file_holds_the_lines_that_were_asked_for(
    client: httpx.AsyncClient, filled: Stored
) -> None:
    secret = "ghp_" + "a1B2" * 10
    await asyncio.to_thread(
        filled.write, "/logs/shop/h.jsonl", [line(content=f"{HOSTILE} {secret}", sessionId="h", at=200)]
    )
    whole = (await download(client)).content.splitlines()
    assert len(whole) == 10
    assert [json.loads(one).get("sessionId") for one in whole[:2]] == ["a", "a"]
    only = {"session": "h", "start": "2025-10-01"}
    assert (await download(client, **only, secrets="keep")).json()["message"]["content"].endswith(secret)
    answers = {
        kind: await download(client, format=kind, **only) for kind in ("jsonl", "csv", "parquet", "markdown", "html")
    }
    for kind, found in answers.items():
        assert found.status_code == 200
        assert "attachment" in found.headers["content-disposition"]
        assert secret.encode() not in found.content
        assert kind == "parquet" or b"[redacted:github-token]" in found.content
    [row] = csv.DictReader(io.StringIO(answers["csv"].text, newline=""))
    assert row["text"].startswith("'=cmd()")
    [row] = pq.read_table(io.BytesIO(answers["parquet"].content)).to_pylist()
    assert (row["session"], row["project"], row["kind"]) == ("h", "shop", "prompt")
    page = answers["html"].text
    assert "<script" not in page
    assert not {"\x1b", "\u202e"} & set(page + answers["markdown"].text)
    assert "default-src 'none'" in page


async def test_a_file_of_words_and_fields_holds_what_the_search_finds(client: httpx.AsyncClient) -> None:
    assert len((await download(client, q="word3")).content.splitlines()) == 1
    assert len((await download(client, q="role:user project:blog date:2025-10-09")).content.splitlines()) == 5
    assert (await download(client, q="until:2025-10-08")).content == b""
    assert (await download(client, q="role:nobody")).status_code == 400
    assert (await download(client, q="date:2025-13")).status_code == 400


async def test_activity_is_counted_in_the_days_of_a_zone(client: httpx.AsyncClient, filled: Stored) -> None:
    await asyncio.to_thread(
        filled.write,
        "/logs/shop/n.jsonl",
        [line(content="late", sessionId="n", at=40_000 + 3600 * n) for n in range(4)],
    )
    path = "/api/conversations/activity"  # the first is at 19:59 of UTC, the last at 22:59
    found = (await get(client, path, session="n", timezone="Asia/Kathmandu"))["data"]
    assert [(one["start"][:10], one["prompts"]) for one in found] == [("2025-10-10", 4)]
    found = (await get(client, path, session="n", timezone="Asia/Kathmandu", step="hour"))["data"]
    assert [one["start"][11:16] for one in found] == ["01:00", "02:00", "03:00", "04:00"]
    [month] = (await get(client, path, step="month", project="shop"))["data"]
    assert (month["prompts"], month["answers"], month["results"]) == (5, 1, 1)


async def test_who_watches_is_told_of_a_session_that_grows(filled: Stored) -> None:
    watch = Watch(filled.database)
    assert {*await watch.look()} == {"a", "b"}, "a page may have been read just before the first look"
    await asyncio.to_thread(filled.write, "/logs/blog/b.jsonl", [line(content="more", sessionId="b")], 5)
    assert json.loads((await watch.look())["b"])["new"] == 1
    live = LiveState("session", watch.look, asyncio.Event(), interval=0.01)
    events = live.events()
    assert b"retry" in await anext(events)
    told = await asyncio.wait_for(anext(events), 60)
    assert b"event: session" in told
    assert b'"session":"b"' in told
    await asyncio.to_thread(filled.write, "/logs/shop/a.jsonl", [line(content="more", sessionId="a")], 4)
    assert b'"session":"a"' in await asyncio.wait_for(anext(events), 60)
    await events.aclose()


async def test_questions_are_listed_and_need_a_warehouse(client: httpx.AsyncClient) -> None:
    found = (await get(client, "/api/conversations/dashboards"))["data"]
    assert {one["dashboard"] for one in found} == {"Productivity", "Patterns", "Projects", "Costs"}
    told = await client.get("/api/conversations/questions/tools")
    assert (told.status_code, "pipeline" in told.json()["data"]["note"]) == (200, True)
    assert (await client.get("/api/conversations/questions/'; DROP")).status_code == 404
    assert (await get(client, "/api/conversations/burn"))["data"]["started_at"] is None
