"""Receive the body of a request, and no more of it than is wanted."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from .asgi import Receive


class BodyTooLarge(ValueError):
    """More arrives than is wanted."""


class BodyIncomplete(ValueError):
    """The client went before all of the body had arrived."""


async def receive_pieces(receive: Receive, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield a body of at most ``limit`` bytes as it arrives; raises BodyTooLarge and BodyIncomplete."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyIncomplete("the body ended before it was complete")
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise BodyTooLarge(f"the body is larger than {limit} bytes")
        if piece:
            yield piece
        more = message.get("more_body", False)


async def receive_body(receive: Receive, limit: int) -> bytes:
    """Return a body of at most ``limit`` bytes; raises BodyTooLarge and BodyIncomplete."""
    return b"".join([piece async for piece in receive_pieces(receive, limit)])
