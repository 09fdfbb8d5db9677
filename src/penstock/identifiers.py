"""Identifiers that sort by the time they were made."""

from __future__ import annotations

import os
import threading
import time
import uuid

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
