"""Identifiers that sort by the time they were made."""

from __future__ import annotations

import os
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """Return a UUID of version 7 (RFC 9562), greater than all before of this process.

    The 12 bits behind the milliseconds count on, so that ids of one millisecond are in order too.
    """
    global _last
    with _lock:
        _last = max(time.time_ns() // 1_000_000 << 12, _last + 1)
        moment = _last
    value = (moment >> 12) << 80 | 7 << 76 | (moment & 0xFFF) << 64 | 2 << 62
    return str(uuid.UUID(int=value | int.from_bytes(os.urandom(8)) >> 2))


def parse_id(text: str) -> str:
    """Return an id as it is written in paths; raises ValueError if it is not a UUID of version 7."""
    with suppress(ValueError, OverflowError):
        found = uuid.UUID(text)
        if found.version == 7 and str(found) == text.lower() and _time_of(found):
            return str(found)
    raise ValueError(f"expected a UUID of version 7, not {text[:64]!r}")


def month_of(identifier: str) -> str:
    """Return the month in which an id was made, such as ``2026/02``."""
    return f"{_time_of(uuid.UUID(identifier)):%Y/%m}"


def _time_of(identifier: uuid.UUID) -> datetime:
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)
