"""The bytes of a body as they are read: decompressed, in UTF-8, and one file after the other."""

from __future__ import annotations

import codecs
import tempfile
import zlib
from collections.abc import Callable
from typing import IO, BinaryIO, Protocol

import multipart  # type: ignore[import-untyped]
import pyarrow as pa

from ....errors import PenstockError, TransientError
from .structure import Malformed

_BLOCK = 1 << 18
_CODINGS = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate", "zstd": "zstd", "br": "brotli", "identity": ""}
_MAX_CODINGS = 3
_MAX_FILES = 1000


class Reader(Protocol):
    """What can be read to its end."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        ...


class _Disk:
    """A raw body; what keeps it from being read now is told from what is wrong with it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: Exception | None = None

    def read(self, size: int = _BLOCK, /) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.failure = TransientError(f"the raw body cannot be read: {error}")
            raise self.failure from error
        except PenstockError as error:
            self.failure = error
            raise


class _Inflated:
    """What gzip or deflate has made smaller; several gzip members are one."""

    def __init__(self, source: Reader, gzip: bool) -> None:
        self._source, self._gzip = source, gzip
        self._waiting, self._ended, self._started = b"", False, False
        self._object = zlib.decompressobj(31 if gzip else 15)

    def read(self, size: int, /) -> bytes:
        while True:
            if not self._waiting and not self._ended:
                self._waiting = self._source.read(_BLOCK)
                self._ended = not self._waiting
            if self._object.eof:
                rest = (self._object.unused_data + self._waiting).lstrip(b"\0")
                if not rest and self._ended:
                    return b""
                if rest:
                    if not self._gzip:
                        raise Malformed("expected the end of the deflated body, got more bytes")
                    self._object, self._waiting = zlib.decompressobj(31), rest
                continue
            if self._ended and not self._waiting:
                if not self._started:
                    return b""
                raise Malformed("the compressed body ends before its end")
            out = self._inflate(size)
            if out:
                return out

    def _inflate(self, size: int) -> bytes:
        data, self._waiting = self._waiting, b""
        if not self._started and not self._gzip and data and not _has_zlib_header(data):
            self._object = zlib.decompressobj(-15)
        self._started = True
        try:
            out = self._object.decompress(data, size)
        except zlib.error as error:
            raise Malformed(f"the compressed body cannot be read: {error}") from None
        self._waiting = b"" if self._object.eof else self._object.unconsumed_tail
        return out


def _has_zlib_header(data: bytes) -> bool:
    return data[0] & 15 == 8 and (len(data) < 2 or (data[0] * 256 + data[1]) % 31 == 0)


class _Unpacked:
    """What zstd or brotli has made smaller."""

    def __init__(self, source: Reader, disk: _Disk, coding: str) -> None:
        self._disk = disk
        self._stream = pa.CompressedInputStream(pa.PythonFile(_Readable(source), mode="r"), coding)

    def read(self, size: int, /) -> bytes:
        try:
            found: bytes = self._stream.read(size)
        except Malformed:
            raise
        except Exception as error:
            if self._disk.failure is not None:
                raise self._disk.failure from error
            raise Malformed(f"the compressed body cannot be read: {error}") from None
        return found


class _Readable:
    """As much of a file as pyarrow asks for."""

    closed = False

    def __init__(self, source: Reader) -> None:
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        return self._source.read(size if size > 0 else _BLOCK)

    def close(self) -> None:
        self.closed = True


class _Limited:
    """Refuses what is larger once it is decompressed."""

    def __init__(self, source: Reader, limit: int) -> None:
        self._source, self._limit, self._read = source, limit, 0

    def read(self, size: int, /) -> bytes:
        found = self._source.read(size)
        self._read += len(found)
        if self._read > self._limit:
            raise Malformed(f"the body has more than {self._limit} bytes once it is decompressed")
        return found


class _Prefixed:
    """What was read to look at it, and the rest."""

    def __init__(self, head: bytes, source: Reader) -> None:
        self._head, self._source = head, source

    def read(self, size: int, /) -> bytes:
        if self._head:
            found, self._head = self._head[:size], self._head[size:]
            return found
        return self._source.read(size)


class _Recoded:
    """UTF-16 or UTF-32 as UTF-8."""

    def __init__(self, source: Reader, encoding: str) -> None:
        self._source, self._encoding = source, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ended = False

    def read(self, size: int, /) -> bytes:
        while not self._ended:
            block = self._source.read(max(size // 2, 4))
            self._ended = not block
            try:
                text = self._decoder.decode(block, self._ended).removeprefix("\ufeff")
                if text:
                    return text.encode()
            except UnicodeError as error:
                raise Malformed(f"expected {self._encoding.upper()}, got {error}") from None
        return b""


def decoded(file: BinaryIO, content_encoding: str, limit: int) -> Reader:
    """Return the body of a file: decompressed and in UTF-8. What it raises, is raised as it is read.

    That is Malformed for what is not as it says, or has more than ``limit`` bytes; TransientError for what cannot be
    read now. A body that says nothing of gzip or zstd and yet is, is read; one that says so and is not, too.
    """
    disk = _Disk(file)
    source: Reader = disk
    codings = [part.strip().lower() for part in content_encoding.split(",") if part.strip()]
    if len(codings) > _MAX_CODINGS or any(coding not in _CODINGS for coding in codings):
        raise Malformed(f"expected Content-Encoding gzip, deflate, zstd or br, got {content_encoding[:80]!r}")
    named = [_CODINGS[coding] for coding in reversed(codings) if _CODINGS[coding]]
    head = source.read(4)
    source = _Prefixed(head, source)
    if not named and head[:3] == b"\x1f\x8b\x08":
        named = ["gzip"]
    elif not named and head == b"\x28\xb5\x2f\xfd":
        named = ["zstd"]
    elif named and head.lstrip()[:1] == b"{" and named[0] != "brotli":
        named = []  # whoever stood between has decompressed it already
    for coding in named:
        unpacked = _Inflated(source, coding == "gzip") if coding in ("gzip", "deflate") else None
        source = _Limited(unpacked or _Unpacked(source, disk, coding), limit)
    return _in_utf8(source if named else _Limited(source, limit))


def _in_utf8(source: Reader) -> Reader:
    head = b""
    while len(head) < 4 and (more := source.read(4 - len(head))):
        head += more
    if head[:3] == b"\xef\xbb\xbf":
        return _Prefixed(head[3:], source)
    for start, encoding in _MARKS:
        if head.startswith(start):
            return _Recoded(_Prefixed(head, source), encoding)
    return _Prefixed(head, source)


_MARKS = [
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"{\0\0\0", "utf-32-le"),
    (b"\0\0\0{", "utf-32-be"),
    (b"{\0", "utf-16-le"),
    (b"\0{", "utf-16-be"),
]


class File:
    """One file of a body, that can be read again and again."""

    def __init__(self, name: str, open: Callable[[], Reader], field: str = "", is_file: bool = True) -> None:
        self.name, self.open = name, open
        self.field, self.is_file = field, is_file
        """Of a multipart body: the name of the field, and whether it has the name of a file."""


def files(source: Reader, boundary: str, most: int) -> list[tuple[File, IO[bytes]]]:
    """Return the files and fields of a multipart body, each spooled to a file that the caller closes.

    Raises Malformed for what is none.
    """
    found: list[tuple[File, IO[bytes]]] = []
    spool: IO[bytes] | None = None
    try:
        with multipart.PushMultipartParser(boundary, max_segment_count=_MAX_FILES, max_segment_size=most) as parser:
            while not parser.closed:
                for event in parser.parse(source.read(_BLOCK)):
                    if isinstance(event, multipart.MultipartSegment):
                        spool = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115 - closed by the caller
                        named = event.filename or event.name or ""
                        found.append((File(named, _reopen(spool, most), event.name or "", bool(event.filename)), spool))
                    elif event and spool is not None:
                        spool.write(event)
    except BaseException as error:
        for _, file in found:
            file.close()
        if isinstance(error, multipart.MultipartError):
            raise Malformed(f"expected multipart/form-data: {error}") from None
        raise
    return found


def _reopen(spool: IO[bytes], limit: int) -> Callable[[], Reader]:
    def open() -> Reader:
        spool.seek(0)
        return decoded(spool, "", limit)  # type: ignore[arg-type]

    return open
