"""How bodies arrive: how much at once, of what kind, and what the app says of them."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from litestar import Request

from ....platform.web.errors import ApiError
from .. import metrics
from ..settings import Settings

ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate", "br", "zstd"})
"""The codings of a body that can be read. One at a time: a coding within a coding is refused."""
TOLD = ("automation-name", "automation-id", "automation-aggregation", "automation-period", "session-id")
"""The headers in which the app says what a run is."""
TIMEZONE = ("timezone", "time-zone", "x-timezone")
"""The headers in which a request may say the zone of times without an offset."""
LONGEST = 256
"""How many characters of a header are kept."""
_CSV = frozenset({"text/csv", "application/csv", "text/comma-separated-values", "text/x-csv"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Accepting:
    """How many bytes of bodies are arriving at this moment, and whether there is room for more."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.bytes = 0

    def take(self, count: int) -> None:
        """Count ``count`` more bytes; raises ApiError if that is too many."""
        if self.bytes + count > self._limit:
            metrics.refused("accepting")
            message = f"more than {self._limit} bytes of bodies are arriving at once; try again in a moment"
            raise ApiError(503, "unavailable", message, headers={"retry-after": "5"})
        self.bytes += count

    def give_back(self, count: int) -> None:
        """Count ``count`` bytes less: they have arrived, or never will."""
        self.bytes -= count


async def chunks(request: Request[Any, Any, Any], accepting: Accepting, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield the body as it arrives.

    Raises ApiError: 413 if it is larger than ``limit``, 400 if it ends before it is complete, 503 if too much arrives
    at once.
    """
    announced = _announced(request)
    if announced > limit:
        raise too_large(limit)
    accepting.take(announced)
    taken, came = announced, 0
    try:
        while True:
            event: Any = await request.receive()
            if event["type"] == "http.disconnect":
                raise ApiError(400, "incomplete", "the body ended before it was complete; nothing of it is kept")
            came += len(event.get("body", b""))
            if came > limit:
                raise too_large(limit)
            if came > taken:
                accepting.take(came - taken)
                taken = came
            if event.get("body"):
                yield event["body"]
            if not event.get("more_body", False):
                return
    finally:
        accepting.give_back(taken)


def too_large(limit: int) -> ApiError:
    """Return the refusal of a body of more than ``limit`` bytes."""
    message = f"the body is larger than {limit} bytes; send it in parts"
    return ApiError(413, "too_large", message, details={"limit": limit})


def _announced(request: Request[Any, Any, Any]) -> int:
    length = request.headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


def form(content_type: str) -> str:
    """Return how a body of this type is read; what says nothing of itself is read as the app's JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _CSV:
        return "csv"
    return "multipart" if kind == "multipart/form-data" else "export"


def encoding(value: str) -> str:
    """Return the coding of a body; raises ApiError, 415, for one that cannot be read."""
    name = value.strip().lower()
    if name in ENCODINGS:
        return "" if name == "identity" else name.removeprefix("x-")
    known = ", ".join(sorted(ENCODINGS - {"", "identity", "x-gzip"}))
    message = f"a body with content-encoding {shown(value)!r} cannot be read; expected none, or one of {known}"
    raise ApiError(415, "unsupported_media_type", message, headers={"accept-encoding": known})


def told(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what the app says of a run."""
    return {name: value for name in TOLD if (value := shown(headers.get(name, "")))}


def timezone(headers: Mapping[str, str]) -> str:
    """Return the time zone that the headers say."""
    return next((shown(headers[name]) for name in TIMEZONE if headers.get(name)), "")


def shown(value: str) -> str:
    """Return a header as it may be kept and shown: bounded, without control characters."""
    return _CONTROL.sub("", value)[:LONGEST].strip()


LONGEST_WAIT = 30.0
"""How long a client can make an answer wait, in seconds."""
_ASYNCHRONOUS = re.compile(r"(?:^|[,\s])respond-async(?:$|[,;\s])")
_WAIT = re.compile(r"(?:^|[,\s])wait=(\d{1,4})(?:$|[,;\s])")


def patience(preferences: str, size: int, settings: Settings) -> float:
    """Return how long the answer to a body of ``size`` waits for its points to be stored.

    The client may say so in the header Prefer: ``respond-async`` waits for nothing, ``wait=10`` at most 10 seconds,
    whatever the size.
    """
    preferences = preferences.lower()
    if _ASYNCHRONOUS.search(preferences):
        return 0.0
    if (asked := _WAIT.search(preferences)) is not None:
        return min(float(asked[1]), LONGEST_WAIT)
    return settings.wait if size <= settings.wait_bytes else 0.0
