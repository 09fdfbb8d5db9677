"""Answers are compressed as the client prefers it."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from penstock.platform.web.compression import choose, compress_answers


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("GZIP;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("*", "zstd"),
        ("*;q=0, gzip", "gzip"),
        ("zstd;q=x, gzip;q=0.1", "gzip"),
        (",;q=,gzip ; q=0.3", "gzip"),
    ],
)
def test_the_encoding_that_is_preferred_is_taken(accepted: str, chosen: str | None) -> None:
    assert choose(accepted) == chosen


async def sent(kind: str, *bodies: bytes, headers: Any = ()) -> list[Any]:
    """Return what is sent of an answer, message by message."""
    found: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told = [(b"content-type", kind.encode()), *headers]
        await send({"type": "http.response.start", "status": 200, "headers": told})
        found.append("begun")
        for place, body in enumerate(bodies):
            await send({"type": "http.response.body", "body": body, "more_body": place + 1 < len(bodies)})

    async def send(message: Any) -> None:
        found.append(message)

    scope: Any = {"type": "http", "headers": [(b"accept-encoding", b"gzip")]}
    await compress_answers(app)(scope, None, send)  # type: ignore[arg-type]
    return found


async def test_a_long_text_is_compressed_piece_by_piece() -> None:
    _, start, *pieces = await sent("text/csv", b"a,b\n" * 1000, b"c,d\n" * 50_000, b"")
    assert dict(start["headers"])[b"content-encoding"] == b"gzip"
    assert gzip.decompress(b"".join(piece["body"] for piece in pieces)) == b"a,b\n" * 1000 + b"c,d\n" * 50_000
    assert [piece["more_body"] for piece in pieces][-1] is False


@pytest.mark.parametrize(
    ("kind", "body", "headers"),
    [
        ("application/json", b"{}", ()),
        ("application/zip", b"x" * 5000, ()),
        ("text/csv", b"x" * 5000, ((b"content-encoding", b"br"),)),
    ],
)
async def test_what_gains_nothing_is_sent_as_it_is(kind: str, body: bytes, headers: Any) -> None:
    start, content = [message for message in await sent(kind, body, headers=headers) if message != "begun"]
    assert (b"content-encoding", b"gzip") not in start["headers"]
    assert content["body"] == body


async def test_events_begin_before_there_is_one() -> None:
    start, begun, *_ = await sent("text/event-stream; charset=utf-8", b"data: 1\n\n")
    assert (start["type"], begun) == ("http.response.start", "begun")
