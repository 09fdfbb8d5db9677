from __future__ import annotations

from typing import Any

import pytest

from penstock.apps.health.api import bodies
from penstock.apps.health.settings import Settings
from penstock.platform.web.errors import ApiError

SETTINGS = Settings(wait_bytes=100, wait="5s")  # type: ignore[arg-type]


class Request:
    """A request as far as its body goes."""

    def __init__(self, *events: dict[str, Any], length: str | None = None) -> None:
        self.events = list(events)
        self.headers = {} if length is None else {"content-length": length}

    async def receive(self) -> dict[str, Any]:
        return self.events.pop(0)


def piece(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def read(request: Request, accepting: bodies.Accepting, limit: int = 10) -> bytes:
    return b"".join([chunk async for chunk in bodies.chunks(request, accepting, limit)])  # type: ignore[arg-type]


async def test_a_body_is_what_arrives() -> None:
    accepting = bodies.Accepting(100)
    assert await read(Request(piece(b"abc"), piece(b""), piece(b"de", False), length="5"), accepting) == b"abcde"
    assert await read(Request(piece(b"", False)), accepting) == b""
    assert accepting.bytes == 0


@pytest.mark.parametrize("length", ["11", "99999999999", None, "garbage", "-5", "²"])
async def test_more_than_the_limit_is_413(length: str | None) -> None:
    accepting = bodies.Accepting(100)
    with pytest.raises(ApiError) as refused:
        await read(Request(piece(b"x" * 6), piece(b"x" * 5), length=length), accepting)
    assert (refused.value.status, refused.value.details) == (413, {"limit": 10})
    assert accepting.bytes == 0


async def test_what_is_announced_as_too_large_is_not_read() -> None:
    request = Request(piece(b"x"), length="11")
    with pytest.raises(ApiError):
        await read(request, bodies.Accepting(100))
    assert request.events


async def test_a_body_that_breaks_off_is_told_so() -> None:
    accepting = bodies.Accepting(100)
    with pytest.raises(ApiError, match="ended before"):
        await read(Request(piece(b"x"), {"type": "http.disconnect"}, length="5"), accepting)
    assert accepting.bytes == 0


async def test_there_is_room_for_so_many_bytes_at_once() -> None:
    accepting = bodies.Accepting(12)
    first = bodies.chunks(Request(piece(b"x" * 8), piece(b"", False), length="8"), accepting, 10)  # type: ignore[arg-type]
    await anext(first)
    with pytest.raises(ApiError) as refused:
        await read(Request(piece(b"y" * 5, False)), accepting)
    assert refused.value.status == 503
    assert "retry-after" in refused.value.headers
    assert accepting.bytes == 8
    assert await read(Request(piece(b"y" * 4, False)), accepting) == b"yyyy"
    assert [chunk async for chunk in first] == []
    assert accepting.bytes == 0


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("application/json", "export"),
        ("", "export"),
        ("TEXT/CSV; charset=utf-8", "csv"),
        ("application/csv", "csv"),
        ("multipart/form-data; boundary=x", "multipart"),
        ("application/x-www-form-urlencoded", "export"),
        (";;;", "export"),
    ],
)
def test_the_form_of_a_body(content_type: str, form: str) -> None:
    assert bodies.form(content_type) == form


@pytest.mark.parametrize(
    ("value", "name"), [("", ""), ("identity", ""), (" GZip ", "gzip"), ("x-gzip", "gzip"), ("br", "br")]
)
def test_codings_that_can_be_read(value: str, name: str) -> None:
    assert bodies.encoding(value) == name


@pytest.mark.parametrize("value", ["compress", "gzip, br", "gzip\x00", "x" * 10_000])
def test_codings_that_cannot_be_read(value: str) -> None:
    with pytest.raises(ApiError) as refused:
        bodies.encoding(value)
    assert refused.value.status == 415
    assert len(refused.value.message) < 500
    assert "\x00" not in refused.value.message


def test_headers_are_kept_bounded_and_without_control_characters() -> None:
    told = bodies.told({"session-id": "a\x00b\r\n" + "c" * 1000, "automation-id": "", "cookie": "secret"})
    assert told == {"session-id": "ab" + "c" * 254}


@pytest.mark.parametrize(
    ("preferences", "size", "seconds"),
    [
        ("", 100, 5.0),
        ("", 101, 0.0),
        ("respond-async", 1, 0.0),
        ("handling=lenient; respond-async", 1, 0.0),
        ("not-respond-async", 1, 5.0),
        ("wait=10", 101, 10.0),
        ("respond-async, wait=10", 1, 0.0),
        ("wait=9999", 1, bodies.LONGEST_WAIT),
        ("wait=x", 1, 5.0),
    ],
)
def test_how_long_an_answer_waits(preferences: str, size: int, seconds: float) -> None:
    assert bodies.patience(preferences, size, SETTINGS) == seconds
