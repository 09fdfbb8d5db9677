"""Read a file payload by payload: lines, length-delimited frames, CSV records or JSON values."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from ... import framing
from ...errors import PermanentError
from ...metadata import VALUE
from .compression import Decompressed
from .content import Content, Damaged, LocalContent, Rewritten
from .part import Part
from .place import HEAD, TAIL, Place, hash_of, mark_of
from .splitters import Cut, Splitter

MAX_PAYLOAD_BYTES = 2 * framing.MAX_BYTES
"""The longest payload that is read: more than this is held at no time."""
_EXCERPT = 120
_STEP = 1 << 20
_SCHEMA = pa.schema([pa.field(VALUE, pa.binary(), nullable=False)])


class PayloadReader:
    """Reads a file payload by payload, a chunk at a time."""

    def __init__(self, content: Content, splitter: Splitter, place: Place, version: str, path: str, chunk: int) -> None:
        self._content, self._splitter, self._path, self._chunk = content, splitter, path, chunk
        self._place, self._version = place, version
        self._tail = self._before = b""  # the bytes before what is to come, and before the offset
        self._head = b""
        self._begun = False

    def read(self, final: bool, version: str | None) -> Part | None:
        """Return the next payloads; only with ``final`` an unended last one, and that comes again once it has grown."""
        self._version = self._content.version() or self._version
        final = final and version in (None, self._version)
        if not self._begun:
            if not self._start(final):
                return self._finished(final)
        elif isinstance(self._content, LocalContent) and not self._is_same():
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
        missing = HEAD - len(self._head)
        self._head += data[self._place.taken : cut.taken][:missing] if missing else b""
        self._head = self._head[: self._place.offset + cut.taken]
        return replace(
            self._place,
            offset=self._place.offset + begin,
            within=cut.within,
            rows=self._place.rows + rows - bool(cut.unended),
            mark=mark_of(self._tail),
            version="",
            taken=cut.unended,
            head=hash_of(self._head),
        )

    def _is_again(self, data: bytes, cut: Cut, old: Place) -> bool:
        """Whether the first payload is the unended one that was delivered before, and has not grown."""
        if not old.taken or not len(cut.payloads):
            return False
        first: bytes = cut.payloads[0].as_py()
        return first.rstrip(b"\r\n") == data[: old.taken].rstrip(b"\r\n")

    def _is_same(self) -> bool:
        """Whether the file still begins, and goes on before the offset, as it did when it was read."""
        tail = self._read_tail(self._place.behind)
        return tail == self._tail and self._content.read_at(0, len(self._head)) == self._head

    def resumes(self) -> bool:
        """Tell whether the file holds what was read before, so that it may be another one with the same contents."""
        try:
            return self._begun or self._start(True)
        except (Rewritten, Damaged):
            return False

    def _start(self, final: bool) -> bool:
        """Find out where the payloads begin, and that what was read of them before is still the same."""
        try:
            begin = self._splitter.begin(self._content, final)
        except PermanentError as error:
            raise Damaged(f"{self._path}: {error}") from error
        if begin is None:
            return False
        offset = max(begin, self._place.offset)
        self._head = self._content.read_at(0, min(HEAD, self._place.behind or begin))
        if self._place.head and hash_of(self._head) != self._place.head:
            raise Rewritten
        start = max(0, offset - TAIL)
        known = self._content.read_at(start, offset + self._place.taken - start)
        self._tail, self._before = known[-TAIL:], known[: offset - start]
        if self._place.behind and mark_of(self._tail) != self._place.mark:
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
            start = max(0, size - _STEP)
            size = start + self._content.read_at(start, size - start).rfind(b"\n") + 1
        if not size:
            return self._place
        head = hash_of(self._content.read_at(0, min(HEAD, size)))
        return replace(self._place, offset=size, mark=mark_of(self._read_tail(size)), head=head)

    def done(self) -> int:
        """Return how many bytes of the file were taken."""
        return self._content.done() if isinstance(self._content, Decompressed) else self._place.offset

    def close(self) -> None:
        self._content.close()
