"""Read properties of AMQP messages that are not as the protocol wants them.

Brokers pass on whatever a sender wrote. The client fails at a text that is not UTF-8, such as an id of raw bytes, or at
a time beyond the year 9999, and ends the connection; the message then comes again, and keeps all others waiting.
"""

from __future__ import annotations

from typing import Any

from pamqp import decode

UNREADABLE = "__unreadable"
"""The header that holds the bytes of headers that cannot be read."""


def _short_text(value: bytes) -> tuple[int, str]:
    length = value[0]
    return length + 1, bytes(value[1 : length + 1]).decode("utf-8", "backslashreplace")


def _time(value: bytes) -> tuple[int, Any]:
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, int.from_bytes(value[:8], "big")


def _table(value: bytes) -> tuple[int, dict[str, Any]]:
    try:
        length, found = decode.field_table(value)
    except (ValueError, OverflowError, IndexError):
        length = 4 + int.from_bytes(value[:4], "big")
        return length, {UNREADABLE: bytes(value[4:length])}
    return length, dict(found)


def accept_all() -> None:
    """Let the client read these properties instead of failing at them; it has no option for it."""
    decode.METHODS.update(shortstr=_short_text, timestamp=_time, table=_table)
    decode.TABLE_MAPPING[b"T"] = _time
