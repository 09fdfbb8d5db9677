"""Bodies are taken as they arrive: bounded one by one and all together, and refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.platform.web.bodies import BytesInFlight, receive_chunks
from penstock.platform.web.errors import ApiError


class Request:
    """A request as far as its body goes."""

    def __init__(self, *events: dict[str, Any], length: str | None = None) -> None:
        self.events = list(events)
        self.headers = {} if length is None else {"content-length": length}

    async def receive(self) -> dict[str, Any]:
        return self.events.pop(0)


def piece(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def read(request: Request, in_flight: BytesInFlight, limit: int = 10) -> bytes:
    return b"".join([chunk async for chunk in receive_chunks(request, in_flight, limit)])  # type: ignore[arg-type]


async def test_a_body_is_what_arrives() -> None:
    in_flight = BytesInFlight(100)
    assert await read(Request(piece(b"abc"), piece(b""), piece(b"de", False), length="5"), in_flight) == b"abcde"
    assert await read(Request(piece(b"", False)), in_flight) == b""
    assert in_flight.bytes == 0


@pytest.mark.parametrize("length", ["11", "99999999999", None, "garbage", "-5", "²"])
async def test_more_than_the_limit_is_413(length: str | None) -> None:
    in_flight = BytesInFlight(100)
    with pytest.raises(ApiError) as refused:
        await read(Request(piece(b"x" * 6), piece(b"x" * 5), length=length), in_flight)
    assert (refused.value.status, refused.value.details) == (413, {"limit": 10})
    assert in_flight.bytes == 0


async def test_what_is_announced_as_too_large_is_not_read() -> None:
    request = Request(piece(b"x"), length="11")
    with pytest.raises(ApiError):
        await read(request, BytesInFlight(100))
    assert request.events


async def test_a_body_that_breaks_off_is_told_so() -> None:
    in_flight = BytesInFlight(100)
    with pytest.raises(ApiError, match="ended before"):
        await read(Request(piece(b"x"), {"type": "http.disconnect"}, length="5"), in_flight)
    assert in_flight.bytes == 0


async def test_there_is_room_for_so_many_bytes_at_once() -> None:
    in_flight = BytesInFlight(12)
    first = receive_chunks(Request(piece(b"x" * 8), piece(b"", False), length="8"), in_flight, 10)  # type: ignore[arg-type]
    await anext(first)
    with pytest.raises(ApiError) as refused:
        await read(Request(piece(b"y" * 5, False)), in_flight)
    assert refused.value.status == 503
    assert "retry-after" in refused.value.headers
    assert in_flight.bytes == 8
    assert await read(Request(piece(b"y" * 4, False)), in_flight) == b"yyyy"
    assert [chunk async for chunk in first] == []
    assert in_flight.bytes == 0


async def test_what_is_refused_for_want_of_room_is_told() -> None:
    refused: list[str] = []
    in_flight = BytesInFlight(3, lambda: refused.append("refused"))
    with pytest.raises(ApiError):
        await read(Request(piece(b"xxxx", False)), in_flight)
    assert (refused, in_flight.bytes) == (["refused"], 0)
