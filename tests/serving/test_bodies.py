"""A body is taken whole and bounded, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.serving.asgi import Receive
from penstock.serving.bodies import BodyIncomplete, BodyTooLarge, receive_body


def coming(*messages: Any) -> Receive:
    left = list(messages)

    async def receive() -> Any:
        return left.pop(0)

    return receive


def piece(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_is_what_arrives() -> None:
    assert await receive_body(coming(piece(b"ab"), piece(b""), piece(b"cde", False)), 5) == b"abcde"
    assert await receive_body(coming({"type": "http.request"}), 5) == b""


async def test_more_than_the_limit_is_not_read() -> None:
    receive = coming(piece(b"abc"), piece(b"def"), piece(b"ghi", False))
    with pytest.raises(BodyTooLarge, match="larger than 5 bytes"):
        await receive_body(receive, 5)
    assert (await receive())["body"] == b"ghi"


async def test_a_client_that_goes_is_told_apart() -> None:
    with pytest.raises(BodyIncomplete):
        await receive_body(coming(piece(b"abc"), {"type": "http.disconnect"}), 5)
