"""What a body is, what the app says of it, and how long its answer waits."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ....platform.web.errors import ApiError
from ..settings import Settings

ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate", "br", "zstd"})
"""The codings of a body that can be read. One at a time: a coding within a coding is refused."""
RUN_HEADERS = ("automation-name", "automation-id", "automation-aggregation", "automation-period", "session-id")
"""The headers in which the app says what a run is."""
TIMEZONE_HEADERS = ("timezone", "time-zone", "x-timezone")
"""The headers in which a request may say the zone of times without an offset."""
MAX_HEADER = 256
"""How many characters of a header are kept."""
_CSV = frozenset({"text/csv", "application/csv", "text/comma-separated-values", "text/x-csv"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def form_of(content_type: str) -> str:
    """Return how a body of this type is read; what says nothing of itself is read as the app's JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _CSV:
        return "csv"
    return "multipart" if kind == "multipart/form-data" else "export"


def encoding_of(value: str) -> str:
    """Return the coding of a body; raises ApiError, 415, for one that cannot be read."""
    name = value.strip().lower()
    if name in ENCODINGS:
        return "" if name == "identity" else name.removeprefix("x-")
    known = ", ".join(sorted(ENCODINGS - {"", "identity", "x-gzip"}))
    message = f"a body with content-encoding {clean(value)!r} cannot be read; expected none, or one of {known}"
    raise ApiError(415, "unsupported_media_type", message, headers={"accept-encoding": known})


def run_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what the app says of a run."""
    return {name: value for name in RUN_HEADERS if (value := clean(headers.get(name, "")))}


def timezone_of(headers: Mapping[str, str]) -> str:
    """Return the time zone that the headers say."""
    return next((clean(headers[name]) for name in TIMEZONE_HEADERS if headers.get(name)), "")


def clean(value: str) -> str:
    """Return a header as it may be kept and shown: bounded, without control characters."""
    return _CONTROL.sub("", value)[:MAX_HEADER].strip()


MAX_WAIT = 30.0
"""How long a client can make an answer wait, in seconds."""
_ASYNCHRONOUS = re.compile(r"(?:^|[,\s])respond-async(?:$|[,;\s])")
_WAIT = re.compile(r"(?:^|[,\s])wait=(\d{1,4})(?:$|[,;\s])")


def wait_of(preferences: str, size: int, settings: Settings) -> float:
    """Return how long the answer to a body of ``size`` waits for its points to be stored.

    The client may say so in the header Prefer: ``respond-async`` waits for nothing, ``wait=10`` at most 10 seconds,
    whatever the size.
    """
    preferences = preferences.lower()
    if _ASYNCHRONOUS.search(preferences):
        return 0.0
    if (asked := _WAIT.search(preferences)) is not None:
        return min(float(asked[1]), MAX_WAIT)
    return settings.wait if size <= settings.wait_bytes else 0.0
