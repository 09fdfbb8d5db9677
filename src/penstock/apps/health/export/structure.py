"""The structure of a JSON text that is read bit by bit: its brackets, colons and commas, found by whole windows."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn, Protocol

import msgspec
import numpy as np

OPEN_OBJECT, CLOSE_OBJECT, OPEN_LIST, CLOSE_LIST, COMMA, COLON = b"{}[],:"
MAX_DEPTH = 64
"""How deep lists and objects may be nested."""
MAX_VALUE_BYTES = 4_000_000
"""How many bytes one value may have that is looked at as a whole."""
_WINDOW = 1 << 18
_BLANK = b" \t\r\n"

_STRUCTURAL = np.zeros(256, np.uint8)
_STRUCTURAL[list(b"{}[],:")] = 255
_DELTA = np.zeros(256, np.int8)
_DELTA[list(b"{[")] = 1
_DELTA[list(b"}]")] = -1
_Positions = np.ndarray[Any, np.dtype[np.int64]]


class Malformed(ValueError):
    """The body cannot be read; the message says where and what was expected."""


class Source(Protocol):
    """What is read."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        ...


class Structure:
    """Walks through a JSON text. At any time the text from ``kept`` on is held, and what follows is a window away."""

    def __init__(self, source: Source, window: int = _WINDOW) -> None:
        self._source, self._window = source, window
        self.at = 0
        """Where the walk is: behind the last event that was taken."""
        self.kept: int | None = None
        """From where on the text is needed later; None if only from ``at`` on."""
        self.depth, self.kind = 0, 0
        """How deep that is, and which character it was."""
        self._held, self._held_from, self._read = b"", 0, 0
        self._inside, self._escaped = 0, False
        self._next, self._count = 0, 0
        self._set(np.empty(0, np.int64), b"", np.empty(0, np.int32))

    def _set(self, positions: _Positions, kinds: bytes, depths: np.ndarray[Any, np.dtype[np.int32]]) -> None:
        self._positions, self._kinds, self._depths = positions, kinds, depths
        self._places, self._levels = positions.data, depths.data  # one by one, these are quicker to read
        self._next, self._count = 0, len(kinds)

    @property
    def read(self) -> int:
        """How many bytes were read so far."""
        return self._read

    def fail(self, position: int, expected: str) -> NoReturn:
        """Raise Malformed."""
        near = self.text(position, min(position + 20, self._read)) if self.holds(position) else b""
        if position >= self._read:
            raise Malformed(f"the body ends at byte {position}; expected {expected}")
        raise Malformed(f"at byte {position}: expected {expected}, got {near.decode('utf-8', 'replace')!r}")

    def text(self, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` to ``end``; raises Malformed if they are too many to be held."""
        if not self.holds(start):
            raise Malformed(f"at byte {start}: expected a value of at most {MAX_VALUE_BYTES} bytes")
        return self._held[start - self._held_from : end - self._held_from]

    def holds(self, start: int) -> bool:
        """Tell whether the text from ``start`` on is held."""
        return start >= self._held_from

    def peek(self, expected: str) -> tuple[int, int]:
        """Return the next event, its position and character, without taking it; raises Malformed at the end."""
        while self._next >= self._count:
            if not self._refill():
                self.fail(self._read, expected)
        return self._places[self._next], self._kinds[self._next]

    def take(self, expected: str) -> tuple[int, int]:
        """Take the next event; ``at`` is behind it."""
        position, kind = self.peek(expected)
        self.depth, self.kind = self._levels[self._next], kind
        self._next += 1
        self.at = position + 1
        return position, kind

    def run(self, depth: int) -> tuple[_Positions, int | None]:
        """Take the rest of the window, or up to the end of the list around ``depth``.

        Returns where the commas of the list are, and where it ends if it does in this window.
        """
        if self._next >= self._count and not self._refill():
            self.fail(self._read, "the end of a list or object")
        first, depths = self._next, self._depths
        closing = np.flatnonzero(depths[first:] < depth)
        last = first + int(closing[0]) if len(closing) else self._count
        kinds = np.frombuffer(self._kinds, np.uint8)[first:last]
        commas = self._positions[first:last][(kinds == COMMA) & (depths[first:last] == depth)]
        if not len(closing):
            if first < self._count:
                self.depth = self._levels[-1]
            self._next, self.at = self._count, self._read
            return commas, None
        self._next, self.depth, self.at = last + 1, depth - 1, self._places[last] + 1
        self.kind = self._kinds[last]
        return commas, self._places[last]

    def blank(self, end: int, expected: str) -> None:
        """Raise Malformed unless there is nothing between ``at`` and ``end``."""
        if end > self.at and self.text(self.at, end).strip(_BLANK):
            self.fail(self.at, expected)

    def finish(self) -> None:
        """Raise Malformed if anything but blanks follows."""
        while True:
            if self._next < self._count:
                self.fail(self._places[self._next], "the end of the body")
            self.blank(self._read, "the end of the body")
            self.at = self._read
            if not self._refill():
                return

    def _refill(self) -> bool:
        """Read the next window, and drop what is not needed any more."""
        chunk = self._source.read(self._window)
        if not chunk:
            return False
        needed = max(self.at - 1, 0) if self.kept is None else min(self.kept, max(self.at - 1, 0))
        if self._read - needed > MAX_VALUE_BYTES + self._window:
            needed = self._read  # whoever wants to see it is told that it is too large
        self._held = self._held[needed - self._held_from :] + chunk
        self._held_from = needed
        data = np.frombuffer(chunk, np.uint8)
        quotes = data == 34
        if self._escaped or b"\\" in chunk:
            quotes &= ~self._after_backslashes(data)
        parity = np.cumsum(quotes.view(np.uint8), dtype=np.uint8)
        parity += np.uint8(self._inside)
        parity &= 1
        self._inside = int(parity[-1])
        parity -= 1  # 255 outside of texts, 0 inside
        events = np.flatnonzero(_STRUCTURAL[data] & parity)
        kinds = data[events]
        depths = np.cumsum(_DELTA[kinds], dtype=np.int32)
        depths += self.depth
        positions = events + self._read
        self._read += len(chunk)
        if len(depths):
            if int(depths.max()) > MAX_DEPTH:
                self.fail(int(positions[int(np.argmax(depths > MAX_DEPTH))]), f"at most {MAX_DEPTH} levels of nesting")
            if int(depths.min()) < 0:
                self.fail(int(positions[int(np.argmax(depths < 0))]), "no more closing than opening brackets")
        self._set(positions, kinds.tobytes(), depths)
        return True

    def _after_backslashes(self, data: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Say which characters a backslash escapes: those behind the first, third ... of a run of them."""
        escaped = np.zeros(len(data) + 1, np.bool_)
        found = np.flatnonzero(data == 92)
        if self._escaped:
            escaped[0] = True
            found = found[found > 0]
        if len(found):
            begins = np.append(True, np.diff(found) != 1)
            starts = np.repeat(found[begins], np.diff(np.append(np.flatnonzero(begins), len(found))))
            escaped[found[(found - starts) % 2 == 0] + 1] = True
        self._escaped = bool(escaped[-1])
        return escaped[:-1]


_check = msgspec.json.Decoder(msgspec.Raw).decode
_BYTE = re.compile(r" \(byte (\d+)\)$")


def check(text: bytes, position: int) -> None:
    """Raise Malformed unless ``text``, which is at ``position`` of the body, is one JSON value.

    NaN, infinite numbers and halves of surrogate pairs are let through: they cost the element that holds them.
    """
    try:
        if not text.isascii():
            text.decode()
        _check(text)
        return
    except UnicodeDecodeError as error:
        where = position + error.start
        raise Malformed(f"at byte {where}: expected UTF-8, got byte {text[error.start]:#04x}") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        fault = str(error)
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        found = _BYTE.search(fault)
        where = position + (getattr(error, "pos", 0) if found is None else int(found[1]))
        said = _BYTE.sub("", fault).removeprefix("JSON is malformed: ").removeprefix("Input data was truncated")
        raise Malformed(f"at byte {where}: expected JSON, got {said or 'an incomplete value'}") from None
