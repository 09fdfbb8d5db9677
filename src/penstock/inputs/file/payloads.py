"""Read a file payload by payload: lines, length-delimited frames, CSV records or JSON values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from ... import framing
from ...delivery import Decoder
from ...errors import PermanentError
from ...framing import Framing
from ...metadata import VALUE
from ...records import find_head, find_records
from .compression import Decompressed
from .content import Content, Damaged, LocalContent, Rewritten
from .part import Part
from .place import TAIL, Place, mark_of
from .values import are_lines, are_lists
from .values import cut as cut_values

MAX_PAYLOAD_BYTES = 2 * framing.MOST_BYTES
"""The longest payload that is read: more than this is held at no time."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEAD = 1 << 20
_EXCERPT = 120
_SCHEMA = pa.schema([pa.field(VALUE, pa.binary(), nullable=False)])


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


class PayloadReader:
    """Reads a file payload by payload, a chunk at a time."""

    def __init__(self, content: Content, splitter: Splitter, place: Place, version: str, path: str, chunk: int) -> None:
        self._content, self._splitter, self._path, self._chunk = content, splitter, path, chunk
        self._place, self._version = place, version
        self._tail = self._before = b""  # the bytes before what is to come, and before the offset
        self._begun = False

    def read(self, final: bool, version: str | None) -> Part | None:
        """Return the next payloads; only with ``final`` an unended last one, and that comes again once it has grown."""
        self._version = self._content.version() or self._version
        final = final and version in (None, self._version)
        if not self._begun:
            if not self._start(final):
                return self._finished(final)
        elif isinstance(self._content, LocalContent) and self._read_tail(self._behind) != self._tail:
            raise Rewritten
        data, cut, ended = self._cut(final, version)
        if not cut.taken:
            self._refuse_damage(data)
            return self._finished(final)
        old, new = self._place, self._advanced(data, cut)
        at_end = ended and cut.taken == len(data) and self._damage() is None
        self._place = new.finished(self._version) if at_end else new
        again = self._is_again(data, cut, old)
        payloads = cut.payloads[1:] if again else cut.payloads
        batch = pa.RecordBatch.from_arrays([payloads], schema=_SCHEMA) if len(payloads) else None
        if batch is None and self._place == old:
            return None
        return Part(self._place, old.rows + again, batch, self._splitter.decoder)

    def _cut(self, final: bool, version: str | None) -> tuple[bytes, Cut, bool]:
        """Read a chunk, or one longer payload, and return it, what was cut from it, and whether the file ends there."""
        offset, size = self._place.offset, max(self._chunk, self._place.taken + 1)
        while True:
            data = self._content.read_at(offset, size)
            ended = len(data) < size
            unchanged = version is None or self._content.version() in (None, version)
            cut = self._split(data, final and ended and unchanged and self._damage() is None)
            if cut.unended and not data[cut.taken - cut.unended : cut.taken].strip(b"\0"):
                cut = self._without_padding(cut)
            if cut.taken or ended:
                return data, cut, ended
            if size >= MAX_PAYLOAD_BYTES:
                raise Damaged(f"{self._path}: the payload at byte {offset} is longer than {MAX_PAYLOAD_BYTES} bytes")
            size = min(2 * size, MAX_PAYLOAD_BYTES)

    def _without_padding(self, cut: Cut) -> Cut:
        """Leave zeros at the end to be read again: what is still written may come in their place."""
        if cut.taken == cut.unended:
            reason = f"{self._path}: it ends in {cut.unended} zero bytes"
            raise Damaged(reason, self._place.finished(self._version))
        return Cut(cut.payloads[:-1], cut.taken - cut.unended, cut.within)

    def _advanced(self, data: bytes, cut: Cut) -> Place:
        """The place behind what was cut, before its last payload if that is unended."""
        rows = cut.rows if cut.rows is not None else len(cut.payloads)
        begin = cut.taken - cut.unended
        self._tail = (self._before + data[max(0, cut.taken - TAIL) : cut.taken])[-TAIL:]
        self._before = (self._before + data[max(0, begin - TAIL) : begin])[-TAIL:]
        return Place(
            self._place.offset + cut.taken - cut.unended,
            cut.within,
            self._place.rows + rows - bool(cut.unended),
            mark_of(self._tail),
            taken=cut.unended,
        )

    def _is_again(self, data: bytes, cut: Cut, old: Place) -> bool:
        """Whether the first payload is the unended one that was delivered before, and has not grown."""
        if not old.taken or not len(cut.payloads):
            return False
        first: bytes = cut.payloads[0].as_py()
        return first.rstrip(b"\r\n") == data[: old.taken].rstrip(b"\r\n")

    @property
    def _behind(self) -> int:
        """The offset behind everything that was delivered."""
        return self._place.offset + self._place.taken

    def _start(self, final: bool) -> bool:
        """Find out where the payloads begin, and that what was read of them before is still the same."""
        try:
            begin = self._splitter.begin(self._content, final)
        except PermanentError as error:
            raise Damaged(f"{self._path}: {error}") from error
        if begin is None:
            return False
        offset = max(begin, self._place.offset)
        start = max(0, offset - TAIL)
        known = self._content.read_at(start, offset + self._place.taken - start)
        self._tail, self._before = known[-TAIL:], known[: offset - start]
        if self._behind and mark_of(self._tail) != self._place.mark:
            raise Rewritten
        self._place = replace(self._place, offset=offset, mark=mark_of(self._tail))
        self._begun = True
        return True

    def _read_tail(self, offset: int) -> bytes:
        return self._content.read_at(max(0, offset - TAIL), min(TAIL, offset))

    def _split(self, data: bytes, final: bool) -> Cut:
        try:
            return self._splitter.split(data, self._place.within, final)
        except PermanentError as error:
            raise Damaged(f"{self._path}: {error}") from error

    def _finished(self, final: bool) -> Part | None:
        """Say once that the file was read to its end, if nothing but that is left to say."""
        if not final or self._place.version == self._version:
            return None
        self._place = self._place.finished(self._version)
        return Part(self._place, self._place.rows)

    def _damage(self) -> str | None:
        return self._content.damage if isinstance(self._content, Decompressed) else None

    def _refuse_damage(self, rest: bytes) -> None:
        if (damage := self._damage()) is not None:
            cut = f"; before that it ends within {rest[:_EXCERPT]!r}" if rest else ""
            raise Damaged(f"{self._path}: the compressed file is damaged or cut off: {damage}{cut}")

    def end(self) -> Place:
        """Return the place behind the last newline; behind everything that cannot grow."""
        size = self._content.size()
        if not isinstance(self._content, LocalContent):
            return self._place.finished(self._version)
        while size and (last := self._content.read_at(size - 1, 1)) and last != b"\n":
            start = max(0, size - _HEAD)
            size = start + self._content.read_at(start, size - start).rfind(b"\n") + 1
        return Place(size, 0, 0, mark_of(self._read_tail(size))) if size else self._place

    def done(self) -> int:
        """How many bytes of the file were taken."""
        return self._content.done() if isinstance(self._content, Decompressed) else self._place.offset

    def close(self) -> None:
        self._content.close()


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
    return Cut(payloads, taken, unended=taken - 1 - data.rfind(b"\n", 0, taken) if taken else 0)


class Documents:
    """The values of a JSON file: one to a line, the elements of an array, or objects over several lines."""

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
            return _lines(data, final, True)
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
