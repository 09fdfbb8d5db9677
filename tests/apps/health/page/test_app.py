"""The files of the page, as they are served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from penstock.platform.pages import StaticPages
from penstock.testing.servers import ServerMissing

from . import conftest

PATH = "/health-data"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


async def ask(page: StaticPages, path: str, method: str = "GET", *, root: str = PATH, **headers: str) -> Answer:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "root_path": root, "headers": given}
    await page(scope, receive, send)
    start, body = sent
    return Answer(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body["body"])


@pytest.fixture
async def page() -> StaticPages:
    return await asyncio.to_thread(StaticPages, "penstock.apps.health.page", PATH)


@pytest.mark.parametrize("root", [PATH, ""])
async def test_the_page_is_at_its_address(page: StaticPages, root: str) -> None:
    answer = await ask(page, PATH, root=root)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<title>Health data</title>" in answer.body
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("page.css", "text/css; charset=utf-8"),
        ("tokens.css", "text/css; charset=utf-8"),
        ("main.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
async def test_files_have_their_types(page: StaticPages, name: str, type: str) -> None:
    answer = await ask(page, f"{PATH}/{name}")
    assert (answer.status, answer.headers["content-type"]) == (200, type)


async def test_a_slash_at_the_end_leads_to_the_page(page: StaticPages) -> None:
    answer = await ask(page, f"{PATH}/")
    assert (answer.status, answer.headers["location"]) == (308, "../health-data")


@pytest.mark.parametrize(
    "path",
    ["/app.py", "/__init__.py", "/../app.py", "/../../service.py", "//etc/passwd", "/./page.css", "/page.css/", "/x\0"],
)
async def test_nothing_but_the_files_of_the_page_is_served(page: StaticPages, path: str) -> None:
    answer = await ask(page, f"{PATH}{path}")
    assert answer.status == 404
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_what_a_browser_has_is_not_sent_again(page: StaticPages) -> None:
    first = await ask(page, f"{PATH}/page.css")
    tag = first.headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        again = await ask(page, f"{PATH}/page.css", if_none_match=known)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert (await ask(page, f"{PATH}/page.css", if_none_match='"other"')).status == 200
    assert (await ask(page, f"{PATH}/main.js")).headers["etag"] != tag


async def test_head_has_no_body(page: StaticPages) -> None:
    whole, head = await ask(page, PATH), await ask(page, PATH, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers == whole.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused(page: StaticPages, method: str) -> None:
    answer = await ask(page, PATH, method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_the_browser_is_told_to_trust_nothing_else(page: StaticPages) -> None:
    for path in (PATH, f"{PATH}/main.js", f"{PATH}/nothing"):
        headers = (await ask(page, path)).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert (headers["x-frame-options"], headers["referrer-policy"]) == ("DENY", "no-referrer")


async def test_a_websocket_is_closed(page: StaticPages) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await page({"type": "websocket", "path": PATH}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_missing_browser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "CHROMIUM", "/nowhere/chromium")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ServerMissing, match="Chromium is not installed; install it with: apt-get"):
        conftest.chromium()
