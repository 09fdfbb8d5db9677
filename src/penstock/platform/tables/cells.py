"""Cells of tables as JSON: exact, bounded, and nothing that a browser would round."""

from __future__ import annotations

import math
from datetime import date, datetime, time
from typing import Any, NamedTuple

import msgspec

MAX_EXACT = 2**53
"""Beyond it a browser rounds whole numbers, so they are texts."""


class Cell(NamedTuple):
    """A value for people, and whether it is only the beginning."""

    value: Any
    is_cut: bool = False


def show(value: Any, length: int) -> Cell:
    """Return a value as JSON: null, true, a number, or a text of at most ``length`` characters."""
    if value is None or isinstance(value, bool):
        return Cell(value)
    if isinstance(value, int):
        return Cell(value) if abs(value) <= MAX_EXACT else _cut(str(value), length)
    if isinstance(value, float):
        return Cell(value if math.isfinite(value) else str(value))
    return _cut(as_text(value, length), length)


def as_text(value: Any, length: int | None = None) -> str:
    """Return a value as text: bytes as hexadecimal digits, what has parts as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"\\x{bytes(value)[: None if length is None else length // 2 + 1].hex()}"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list | dict | tuple):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return str(value)


def _cut(text: str, length: int) -> Cell:
    text = text.encode("utf-8", "replace").decode()
    return Cell(text[:length], True) if len(text) > length else Cell(text)
