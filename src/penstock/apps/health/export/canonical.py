"""The hash of what a JSON body says, by which the same said again is known."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from ..acceptance import Accepted
from .bodies import Reader
from .records import encode_sorted

MAX_HASHED_BYTES = 8_000_000
"""Up to how many bytes the content of a body is hashed, whatever the order of its keys."""
_BLOCK = 1 << 18
_SMALL = 1 << 16


def hash_content(source: Reader, accepted: Accepted) -> str | None:
    """Return the hash of what a JSON body says, whatever the order of its keys; None for all others."""
    if accepted.form in ("csv", "multipart") or (accepted.bytes > MAX_HASHED_BYTES and not accepted.content_encoding):
        return None
    body = b""
    while block := source.read(_BLOCK):
        body += block
        if len(body) > MAX_HASHED_BYTES:
            return None
    hashed = hashlib.sha256()
    try:
        _hash(msgspec.json.decode(body, type=msgspec.Raw), hashed.update)
    except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError):
        return None
    return hashed.hexdigest()


def _hash(raw: msgspec.Raw, update: Callable[[bytes], Any]) -> None:
    """Hash large lists and objects bit by bit, so that little of them is in memory as objects."""
    text = memoryview(raw)
    opening = bytes(text[:16]).lstrip()[:1]
    if len(text) < _SMALL or opening not in (b"{", b"["):
        update(encode_sorted(msgspec.json.decode(raw)))
    elif opening == b"{":
        members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        update(b"{")
        for number, key in enumerate(sorted(members)):
            update((b"," if number else b"") + encode_sorted(key) + b":")
            _hash(members[key], update)
        update(b"}")
    else:
        update(b"[")
        waiting = deque(msgspec.json.decode(raw, type=list[msgspec.Raw]))
        while waiting:
            _hash(waiting.popleft(), update)
            update(b"," if waiting else b"")
        update(b"]")
