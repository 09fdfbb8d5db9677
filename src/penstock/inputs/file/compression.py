"""The bytes that a compressed file holds, also when it is padded, put together of several, cut off or damaged."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from .content import Content, ContentFile

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}
"""Extensions of compressed files, and what they were compressed with."""
_STEP = 64 << 10
"""How much is decompressed at once."""
_MAGIC = {"gzip": b"\x1f\x8b", "bz2": b"BZh", "xz": b"\xfd7zXZ"}
_FAILURES = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


class Decompressed:
    """What a compressed file holds; going forward is cheap, going back begins anew.

    A file that is damaged, or cut off, ends where it can no longer be read, and ``damage`` then says why. Zeros behind
    the end of a stream are no damage: tapes and block devices leave them.
    """

    def __init__(self, content: Content, compression: str) -> None:
        self._content, self._compression = content, compression
        self.damage: str | None = None
        self._rewind()

    def _rewind(self) -> None:
        self._raw = ContentFile(self._content)
        self._stream = _Frames(self._raw) if self._compression == "zstd" else _Members(self._raw, self._compression)
        self._window, self._start, self._ended = bytearray(), 0, False

    def read_at(self, offset: int, size: int) -> bytes:
        if offset < self._start:
            self._rewind()
        while not self._ended and self._start + len(self._window) < offset + size:
            self._window += self._decompress()
            if (passed := min(offset - self._start, len(self._window))) > 0:
                del self._window[:passed]
                self._start += passed
        at = offset - self._start
        return bytes(self._window[at : at + size])

    def _decompress(self) -> bytes:
        data = self._stream.read()
        if (failure := self._raw.failure) is not None:
            self._rewind()
            raise failure
        self.damage = self._stream.damage
        self._ended = not data
        return data

    def size(self) -> int:
        return self._content.size()

    def version(self) -> str | None:
        return self._content.version()

    def born(self) -> int:
        return self._content.born()

    def done(self) -> int:
        """Return how many bytes of the compressed file were taken."""
        return self._raw.tell()

    def close(self) -> None:
        self._content.close()


class _Members:
    """Streams of gzip, bzip2 or xz, one behind another, with zeros between and behind them."""

    def __init__(self, raw: ContentFile, compression: str) -> None:
        self._raw, self._compression = raw, compression
        self._member: Any = None
        self._input = b""
        self._first = True
        self.damage: str | None = None

    def read(self) -> bytes:
        """Return the next bytes; none at the end, or where damage begins."""
        while self.damage is None:
            try:
                if self._member is None and not self._begin():
                    return b""
                if data := self._advance():
                    return data
            except _FAILURES as error:
                self.damage = self.damage or str(error)
        return b""

    def _begin(self) -> bool:
        """Begin with the next stream, if there is one."""
        while not (found := self._input.lstrip(b"\0") if not self._first else self._input):
            self._input = self._raw.read(_STEP)
            if not self._input:
                return False
        magic = _MAGIC[self._compression]
        if len(found) < len(magic):
            found += self._raw.read(_STEP)
        if not found.startswith(magic):
            where = "at its start" if self._first else "behind its end"
            raise ValueError(f"what stands {where} is not {self._compression}")
        self._input, self._first = found, False
        self._member = _MEMBERS[self._compression]()
        return True

    def _advance(self) -> bytes:
        """Decompress a step."""
        member = self._member
        if not self._input and (isinstance(member, _Inflation) or member.needs_input):
            self._input = self._raw.read(_STEP)
            if not self._input:
                raise EOFError("it ends within the compressed data")
        given, self._input = self._input, b""
        data: bytes = member.decompress(given, _STEP)
        if isinstance(member, _Inflation):
            self._input, self.damage = member.rest, member.damage
        if member.eof:
            self._input, self._member = member.unused_data, None
        return data


class _Inflation:
    """One member of gzip; where it is damaged, what comes before that is not lost."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(wbits=31)
        self.rest = b""
        self.damage: str | None = None

    def decompress(self, data: bytes, most: int) -> bytes:
        """Return at most so many bytes; ``rest`` is what of ``data`` is to be given again."""
        before = self._object.copy()
        try:
            found = self._object.decompress(data, most)
        except zlib.error as error:
            self.damage, self.rest = str(error), b""
            return _salvaged(before, data)
        self.rest = self._object.unconsumed_tail
        return found

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        """What was given and follows the member."""
        return self._object.unused_data


def _salvaged(stream: Any, data: bytes) -> bytes:
    found = b""
    try:
        for at in range(len(data)):
            found += stream.decompress(data[at : at + 1])
    except zlib.error:
        pass
    return found


_MEMBERS: dict[str, Callable[[], Any]] = {
    "gzip": _Inflation,
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
}


class _Frames:
    """Frames of Zstandard."""

    def __init__(self, raw: ContentFile) -> None:
        self._raw = raw
        self._stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
        self._given = 0
        self.damage: str | None = None

    def read(self) -> bytes:
        """Return the next bytes; none at the end, or where damage begins."""
        if self.damage is not None:
            return b""
        try:
            data: bytes = self._stream.read(_STEP)
        except OSError as error:
            if self._raw.failure is not None:
                return b""
            self.damage = str(error)
            return self._before_damage()
        self._given += len(data)
        return data

    def _before_damage(self) -> bytes:
        """Return what the failed step had decompressed: read anew, in steps that cannot fail half-way."""
        self._raw.seek(0)
        stream = pa.CompressedInputStream(pa.PythonFile(self._raw, mode="r"), "zstd")
        found = b""
        try:
            left = self._given
            while left and (data := stream.read(min(left, _STEP))):
                left -= len(data)
            while len(found) < _STEP and (data := stream.read(1)):
                found += data
        except OSError:
            pass
        return found
