"""Requests of applications are counted by application, method, route and status, all of closed sets."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.observe.http import Answered, Measured
from penstock.observe.metrics import exposition, registry


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"].startswith("/notes/"):
        scope["path_template"] = "/notes/{id}"
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 201, "headers": []})
    for part in (b"no", b"te"):
        await send({"type": "http.response.body", "body": part, "more_body": part == b"no"})


async def ask(app: Any, method: str, path: str, name: str, *parts: bytes) -> tuple[list[Answered], list[Any]]:
    noted: list[Answered] = []
    sent: list[Any] = []
    coming = [{"type": "http.request", "body": part, "more_body": part != parts[-1]} for part in parts]

    async def receive() -> Any:
        return coming.pop(0) if coming else {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    measured: Any = Measured(name, "/notes/*", app, noted.append)
    await measured({"type": "http", "method": method, "path": path}, receive, send)
    return noted, sent


def value(metric: str, **labels: str) -> float:
    return registry.get_sample_value(f"penstock_http_{metric}", labels) or 0.0


async def test_a_request_is_counted_by_its_route_and_passed_on() -> None:
    [answered], sent = await ask(app, "POST", "/notes/17", "counting", b"ab", b"cde")
    assert [message.get("body") for message in sent] == [None, b"no", b"te"]
    assert (answered.path, answered.template, answered.status) == ("/notes/*", "/notes/{id}", 201)
    assert (answered.received, answered.sent) == (5, 4)
    route = {"application": "counting", "method": "POST", "route": "/notes/{id}"}
    assert value("requests_total", **route, status="201") == 1
    assert value("request_duration_seconds_count", **route) == 1
    assert value("received_bytes_total", application="counting") == 5
    assert value("sent_bytes_total", application="counting") == 4


async def test_paths_and_methods_that_nobody_serves_make_no_labels() -> None:
    for number in range(3):
        await ask(app, "BREW", f"/nothing/{number}", "closed")
    labels = {"application": "closed", "method": "other", "route": "/notes/*", "status": "201"}
    assert value("requests_total", **labels) == 3
    assert b"/nothing" not in exposition()
    assert b"BREW" not in exposition()


async def test_a_request_that_breaks_off_is_counted() -> None:
    async def breaks(*_: object) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await ask(breaks, "GET", "/notes/17", "breaking")
    assert value("requests_total", application="breaking", method="GET", route="/notes/*", status="500") == 1


async def test_what_is_not_a_request_is_passed_on() -> None:
    seen: list[str] = []

    async def note(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    measured: Any = Measured("lifespan", "/", note, lambda answered: pytest.fail("it is counted"))
    await measured({"type": "lifespan"}, None, None)
    assert seen == ["lifespan"]
