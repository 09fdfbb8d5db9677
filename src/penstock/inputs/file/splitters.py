"""Where the payloads of a file are: lines, frames, CSV records or JSON values."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from ... import framing
from ...delivery import Decoder
from ...errors import PermanentError
from ...framing import Framing
from ...records import find_head, find_records
from .content import Content, Damaged
from .spread import join_spread
from .values import are_lines, are_lists
from .values import cut as cut_values

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEAD = 1 << 20


class Cut(NamedTuple):
    """What was cut from the start of some data."""

    payloads: pa.BinaryArray
    taken: int
    """How many bytes they took."""
    within: int = 0
    """What the splitter is to be told next time."""
    rows: int | None = None
    """How many rows they hold, where that is not one each."""
    unended: int = 0
    """How many bytes the last payload took whose end is still to come."""


class Splitter(Protocol):
    """Where the payloads of one file are."""

    decoder: Decoder | None

    def begin(self, content: Content, final: bool) -> int | None:
        """Return where the first payload starts; None while that cannot be told."""
        ...

    def split(self, data: bytes, within: int, final: bool) -> Cut:
        """Return the complete payloads at the start of ``data``; ``final`` takes an unfinished last one."""
        ...


class Framed:
    """Payloads as ``framing`` tells them apart."""

    def __init__(self, kind: Framing, keep_ends: bool, decoder: Decoder | None = None) -> None:
        self._kind, self._keep_ends, self.decoder = kind, keep_ends, decoder

    def begin(self, content: Content, final: bool) -> int | None:
        """Return where the first payload starts: behind a byte order mark, if these are lines."""
        return _mark_size(content) if self._kind is Framing.LINES else 0

    def split(self, data: bytes, within: int, final: bool) -> Cut:
        """Return the complete payloads and the bytes they took."""
        if self._kind is Framing.LINES:
            return _lines(data, final, self._keep_ends)
        if self._kind is Framing.LENGTH_DELIMITED and final:
            cut = Cut(*framing.split(self._kind, data, final=False))
            if cut.taken or not data:
                return cut
        return Cut(*framing.split(self._kind, data, final=final))


class Records:
    """The records of a CSV file, whose quoted fields may hold line breaks."""

    def __init__(self, header: bool, delimiter: str | None, decoder_for: Callable[[bytes, str], Decoder]) -> None:
        self._header, self._delimiter, self._decoder_for = header, delimiter, decoder_for
        self.decoder: Decoder | None = None

    def begin(self, content: Content, final: bool) -> int | None:
        """Return where the first record starts, behind the header; None while the header is unfinished."""
        begin = _mark_size(content)
        if not self._header:
            self._delimiter = self._delimiter or ","
            self.decoder = self._decoder_for(b"", self._delimiter)
            return begin
        data = content.read_at(begin, _HEAD)
        head = find_head(data, self._delimiter, final=final and len(data) < _HEAD)
        if head is not None and head.record and head.size == len(data) and not data.endswith((b"\n", b"\r")):
            self._decoder_for(head.record, head.delimiter)  # raises what cannot be a header
            return None
        if head is None:
            if len(data) == _HEAD:
                raise Damaged(f"the header is longer than {_HEAD} bytes")
            return begin if final else None
        self._delimiter = head.delimiter
        self.decoder = self._decoder_for(head.record, head.delimiter)
        return begin + head.size

    def split(self, data: bytes, within: int, final: bool) -> Cut:
        """Return the complete records, with their line ends, and the bytes they took."""
        assert self._delimiter is not None
        found = find_records(data, self._delimiter, final=final)
        starts = np.concatenate(([0], found.ends)).astype(np.int32)
        buffers = [None, pa.py_buffer(starts), pa.py_buffer(data)]
        payloads = pa.BinaryArray.from_buffers(pa.binary(), len(starts) - 1, buffers)
        return Cut(payloads, int(starts[-1]), unended=int(starts[-1] - starts[-2]) if found.is_open else 0)


def _lines(data: bytes, final: bool, keep_ends: bool) -> Cut:
    """The lines at the start of some data."""
    payloads, taken = framing.split(Framing.LINES, data, final=final, keep_ends=keep_ends)
    return Cut(payloads, taken, unended=_unended(data, taken))


def _unended(data: bytes, taken: int) -> int:
    """How many bytes the last line took that has no end."""
    return taken - 1 - data.rfind(b"\n", 0, taken) if taken else 0


class Documents:
    """The values of a JSON file: on lines, the elements of an array, or objects over several lines."""

    _LINES, _ARRAY, _CLOSED, _SPREAD = 0, 1, 2, 3

    def __init__(self, decoder: Decoder | None) -> None:
        self.decoder = decoder
        self._kind = self._LINES

    def begin(self, content: Content, final: bool) -> int | None:
        """Return where the first value starts; None while it cannot be told how the values follow one another."""
        begin, step = _mark_size(content), 4096
        head = content.read_at(begin, step)
        while len(head) == step and not head.strip():
            begin += step
            head = content.read_at(begin, step)
        blank = len(head) - len(head.lstrip())
        if head[blank : blank + 1] == b"[" and not are_lists(content.read_at(begin + blank, _HEAD)):
            self._kind = self._ARRAY
            return begin + blank + 1
        if not head.strip():
            return begin if final else None
        head = content.read_at(begin, _HEAD)
        lines = are_lines(head.lstrip(), final or len(head) == _HEAD)
        if lines is False:
            self._kind = self._SPREAD
        return None if lines is None else begin

    def split(self, data: bytes, within: int, final: bool) -> Cut:
        """Return the complete values, the bytes they took, and whether their array has ended."""
        if self._kind == self._LINES:
            lines = join_spread(framing.split(Framing.LINES, data, final=final, keep_ends=True)[0], final)
            unended = 0 if lines.is_last_spread else _unended(data, lines.taken)
            return Cut(lines.payloads, lines.taken, unended=unended)
        if within == self._CLOSED or not data.strip():
            if data.strip():
                raise PermanentError("there is more behind the end of the array")
            if final and self._kind == self._ARRAY and within != self._CLOSED:
                raise PermanentError("the array is not closed: expected ']' at the end")
            return Cut(pa.array([], pa.binary()), len(data), within)
        found = cut_values(data, self._kind == self._ARRAY)
        if final and not found.taken:
            raise PermanentError("the last value is not complete, or is no JSON")
        if found.closed and self._kind != self._ARRAY:
            raise PermanentError("a bracket is closed that was never opened")
        return Cut(found.payloads, found.taken, self._CLOSED if found.closed else 0)


def _mark_size(content: Content) -> int:
    return len(_BYTE_ORDER_MARK) if content.read_at(0, len(_BYTE_ORDER_MARK)) == _BYTE_ORDER_MARK else 0
