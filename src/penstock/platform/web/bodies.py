"""Take the bodies of requests as they arrive, in bounded memory, and refuse what is too much."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from litestar import Request

from ...serving.bodies import BodyIncomplete, BodyTooLarge, receive_pieces
from .errors import ApiError


class BytesInFlight:
    """How many bytes of bodies are arriving at this moment, and whether there is room for more.

    ``on_refusal`` is called when there is not.
    """

    def __init__(self, limit: int, on_refusal: Callable[[], object] = bool) -> None:
        self._limit, self._on_refusal = limit, on_refusal
        self.bytes = 0

    def take(self, count: int) -> None:
        """Count ``count`` more bytes; raises ApiError, 503, if that is too many."""
        if self.bytes + count > self._limit:
            self._on_refusal()
            message = f"more than {self._limit} bytes of bodies are arriving at once; try again in a moment"
            raise ApiError(503, "unavailable", message, headers={"retry-after": "5"})
        self.bytes += count

    def give_back(self, count: int) -> None:
        """Count ``count`` bytes less: they have arrived, or never will."""
        self.bytes -= count


async def receive_chunks(
    request: Request[Any, Any, Any], in_flight: BytesInFlight, limit: int
) -> AsyncGenerator[bytes, None]:
    """Yield the body as it arrives.

    Raises ApiError: 413 if it is larger than ``limit``, 400 if it ends before it is complete, 503 if too much arrives
    at once.
    """
    announced = _announced_size(request)
    if announced > limit:
        raise too_large(limit)
    in_flight.take(announced)
    taken, came = announced, 0
    receive: Any = request.receive
    try:
        async with aclosing(receive_pieces(receive, limit)) as pieces:
            async for piece in pieces:
                came += len(piece)
                if came > taken:
                    in_flight.take(came - taken)
                    taken = came
                yield piece
    except BodyTooLarge:
        raise too_large(limit) from None
    except BodyIncomplete as error:
        raise ApiError(400, "incomplete", f"{error}; nothing of it is kept") from None
    finally:
        in_flight.give_back(taken)


def too_large(limit: int) -> ApiError:
    """Return the refusal of a body of more than ``limit`` bytes."""
    message = f"the body is larger than {limit} bytes; send it in parts"
    return ApiError(413, "too_large", message, details={"limit": limit})


def _announced_size(request: Request[Any, Any, Any]) -> int:
    length = request.headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0
