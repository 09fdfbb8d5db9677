"""Escapes of JSON texts that are half of a surrogate pair: JSON by its grammar, but no character."""

from __future__ import annotations

import re

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\[^u]",
    re.DOTALL,
)


def find_unpaired(text: bytes) -> bytes | None:
    """Return the first escape that is half of a surrogate pair; None if there is none."""
    if not _HALF.search(text):
        return None
    return next((found["half"] for found in _ESCAPES.finditer(text) if found["half"]), None)


def mask_unpaired(text: bytes) -> bytes:
    """Return the text, of the same length, with letters in place of each half of a surrogate pair."""
    if not _HALF.search(text):
        return text
    return _ESCAPES.sub(lambda found: b"x" * 6 if found["half"] else found[0], text)
