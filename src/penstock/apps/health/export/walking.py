"""Walk through a JSON text value by value: what is looked at, what is skipped, and what is not JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from .structure import (
    CLOSE_LIST,
    CLOSE_OBJECT,
    COLON,
    COMMA,
    MAX_VALUE_BYTES,
    OPEN_LIST,
    OPEN_OBJECT,
    Malformed,
    Structure,
    check,
)


class Walk:
    """Where a text is read: each call takes what comes next, or raises Malformed."""

    def __init__(self, structure: Structure) -> None:
        self.text = structure

    def members(self) -> Iterator[str]:
        """Yield the keys of an object that was opened; each value must be taken before the next."""
        text = self.text
        position, kind = text.peek("a key or }")
        if kind == CLOSE_OBJECT:
            text.blank(position, "a key or }")
            text.take("}")
            return
        while True:
            start = text.at
            position, kind = text.peek("a key")
            if kind != COLON:
                text.fail(start, "a key and :")
            raw = text.text(start, position)
            check(raw, start)
            text.take(":")
            yield _key(raw, start)
            position, kind = text.peek(", or }")
            text.blank(position, ", or }")
            text.take(", or }")
            if kind == CLOSE_OBJECT:
                return
            if kind != COMMA:
                text.fail(position, ", or }")

    def items(self) -> Iterator[int]:
        """Yield the index of each element of a list that was opened; each must be taken before the next."""
        text = self.text
        position, kind = text.peek("an element or ]")
        if kind == CLOSE_LIST and not text.text(text.at, position).strip():
            text.take("]")
            return
        index = 0
        while True:
            yield index
            position, kind = text.peek(", or ]")
            text.blank(position, ", or ]")
            text.take(", or ]")
            if kind == CLOSE_LIST:
                return
            if kind != COMMA:
                text.fail(position, ", or ]")
            index += 1

    def begin(self) -> int | None:
        """Open the value that comes; None if it is neither a list nor an object, and so not taken."""
        text = self.text
        position, kind = text.peek("a value")
        if kind not in (OPEN_OBJECT, OPEN_LIST):
            return None
        text.blank(position, "a value")
        text.take("a value")
        return kind

    def value(self) -> tuple[int, Any]:
        """Take a value that is neither a list nor an object; return where it is and what it is."""
        text = self.text
        start = text.at
        position, _ = text.peek("a value")
        if not text.holds(start):  # too large to be looked at: whatever holds it is too large as well
            text.at = position
            return start, "\N{REPLACEMENT CHARACTER}"
        raw = text.text(start, position)
        if not raw.strip():
            text.fail(start, "a value")
        check(raw, start)
        text.at = position
        try:
            return start, msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeError, ValueError):
            return start, "\N{REPLACEMENT CHARACTER}"  # NaN and the like: not known, but there

    def skip(self) -> tuple[int, Any]:
        """Pass a list or object that was opened; return where it is."""
        text = self.text
        start, opened, depth = text.at - 1, text.kind, text.depth
        closing, whole = None, True
        while closing is None:
            text.kept = start if whole else None
            _, closing = text.run(depth)
            whole = whole and text.at - start <= MAX_VALUE_BYTES
        self.closes(closing, CLOSE_OBJECT if opened == OPEN_OBJECT else CLOSE_LIST)
        if whole:
            check(text.text(start, text.at), start)
        text.kept = None
        return start, ...

    def closes(self, position: int, kind: int) -> None:
        if self.text.kind != kind:
            self.text.fail(position, chr(kind))


def _key(raw: bytes, start: int) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.MsgspecError, UnicodeError):
        raise Malformed(f"at byte {start}: expected a text as key, got {raw[:40].decode('utf-8', 'replace')}") from None
