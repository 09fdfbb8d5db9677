"""The bytes of one file, wherever it is, read at an offset."""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
from typing import IO, Any, Protocol

from ...clients.object_store import translated
from ...errors import PermanentError, TransientError
from .birth import birth_of
from .place import Place, printable

_WINDOW = 8 << 20
"""How much of an object is fetched at once."""


class Rewritten(Exception):
    """The file does not hold any more what was read of it, or is another one with its inode: begin it anew."""


class Removed(Exception):
    """The file is no longer there."""


class Unreadable(TransientError):
    """The file cannot be opened now, others perhaps can."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class _NoRanges(Exception):
    """The server gives whole files only."""


class Content(Protocol):
    """What a file holds."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer only at the end."""
        ...

    def size(self) -> int:
        """Return how many bytes it holds now, before decompression."""
        ...

    def version(self) -> str | None:
        """Return the version of what it holds now, None where that is the version it was listed with."""
        ...

    def born(self) -> int:
        """Return when the file was made, 0 where that is not known."""
        ...

    def close(self) -> None: ...


def version_of(status: os.stat_result) -> str:
    """Return the version of a local file, which differs once it is written."""
    return f"{status.st_size}:{status.st_mtime_ns}"


class LocalContent:
    """A file of this machine, held open: it can be read to its end even when it was renamed or deleted."""

    def __init__(self, path: str) -> None:
        # Without O_NONBLOCK opening a pipe that took the place of the file would wait for somebody to write to it.
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._path = path
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            os.close(self._file)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def born(self) -> int:
        return birth_of(self._file) or 0

    def identity(self) -> tuple[int, int]:
        """Return the inode and the device: which file it is, whatever its path leads to by now."""
        status = os.fstat(self._file)
        return status.st_ino, status.st_dev

    def read_at(self, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._file, size, offset)
            while len(data) < size and (more := os.pread(self._file, size - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise Unreadable(f"{self._path} cannot be read: {error.strerror}") from error
        return data

    def size(self) -> int:
        return os.fstat(self._file).st_size

    def version(self) -> str:
        return version_of(os.fstat(self._file))

    def close(self) -> None:
        os.close(self._file)


class StoredContent:
    """An object of a store, fetched in large ranges; raises Rewritten when it is replaced meanwhile.

    A web server that gives no ranges is asked once for the whole, which is kept in a temporary file.
    """

    def __init__(self, store: Any, path: str, size: int, etag: str | None) -> None:
        self._store, self._path, self._size, self._etag = store, path, size, etag
        self._window, self._start = memoryview(b""), 0
        self._copy: IO[bytes] | None = None

    def read_at(self, offset: int, size: int) -> bytes:
        size = max(0, min(size, self._size - offset))
        if not size:
            return b""
        if self._copy is None and not self._start <= offset <= offset + size <= self._start + len(self._window):
            self._fetch(offset, min(max(size, _WINDOW), self._size - offset))
        if self._copy is not None:
            return os.pread(self._copy.fileno(), size, offset)
        return bytes(self._window[offset - self._start : offset - self._start + size])

    def _fetch(self, offset: int, size: int) -> None:
        try:
            got = self._get({"range": (offset, offset + size)})
        except _NoRanges:
            self._copy = self._download()
            return
        with translated(f"reading {self._path}"):
            self._window, self._start = memoryview(got.bytes()), offset

    def _download(self) -> IO[bytes]:
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the content
        try:
            with translated(f"reading {self._path}"):
                for chunk in self._get({}).stream():
                    copy.write(chunk)
            copy.flush()
        except BaseException:
            copy.close()
            raise
        return copy

    def _get(self, options: dict[str, Any]) -> Any:
        import obstore
        from obstore.exceptions import NotSupportedError, PreconditionError

        if self._etag is not None:
            options["if_match"] = self._etag
        with translated(f"reading {self._path}"):
            try:
                return obstore.get(self._store, self._path, options=options)  # type: ignore[arg-type]
            except PreconditionError as replaced:
                raise Rewritten from replaced
            except FileNotFoundError as missing:
                raise Removed from missing
            except NotSupportedError as unsupported:
                raise _NoRanges from unsupported

    def size(self) -> int:
        return self._size

    def version(self) -> None:
        return None

    def born(self) -> int:
        return 0

    def close(self) -> None:
        self._window = memoryview(b"")
        if self._copy is not None:
            self._copy.close()
            self._copy = None


class ContentFile(io.RawIOBase):
    """Content as a file object, for libraries that want one; ``failure`` keeps what reading it raised."""

    def __init__(self, content: Content) -> None:
        self._content, self._at = content, 0
        self.failure: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._content.size()}[whence]
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._content.read_at(self._at, len(buffer))
        except Exception as error:
            self.failure = error  # the library in between raises an error of its own
            raise OSError(str(error)) from error
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class Damaged(PermanentError):
    """Part of a file cannot be read; says which file and what is wrong with it."""

    def __init__(self, message: str, place: Place | None = None) -> None:
        super().__init__(printable(message))
        self.place = place
        """Where reading goes on behind it; None if nothing of the file can be read any more."""
