"""Durable writes: syncs, file locks, and errors told apart by whether they may pass."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time

from ..errors import ConnectionLost, PermanentError, TransientError

LOCK_TIMEOUT = 5.0
"""How long to wait for another process that writes the same file, in seconds."""

_PASSING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EAGAIN,
    errno.EINTR,
    errno.EMFILE,
    errno.ENFILE,
    errno.EIO,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EBUSY,
}
_UNLOCKABLE = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}
_NAMES = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
"""What is wrong with a path, which may come from the rows."""


def classify_error(error: OSError, path: str, *, opening: bool = False) -> TransientError | PermanentError:
    """Convert an OSError to a TransientError if writing ``path`` may succeed later, else to a PermanentError.

    Once it could be opened, all passes that is not wrong with the path: a permission that was taken away, too.
    """
    passes = error.errno in _PASSING if opening else error.errno not in _NAMES
    kind = TransientError if passes else PermanentError
    return kind(f"cannot write {path}: {error.strerror or error}")


def make_folder(folder: str, mode: int = 0o777) -> None:
    """Create a folder and those of its parents that are missing, each with ``mode`` and made durable."""
    folder = folder or "."
    if os.path.exists(folder):  # asked before what it is: another may be making it at this moment
        if os.path.isdir(folder):
            return
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
    parent = os.path.dirname(folder)
    make_folder(parent, mode)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, mode)
    sync_folder(parent)


def sync_folder(folder: str) -> None:
    """Sync a folder, so that new and renamed files survive a crash."""
    opened = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_all(opened: int, data: memoryview) -> None:
    """Write all the bytes, however many calls that takes."""
    while data:
        data = data[os.write(opened, data) :]


def lock(opened: int, path: str, timeout: float = LOCK_TIMEOUT) -> None:
    """Lock a file against other writers; raises TransientError if it stays locked. Kept until unlocked or closed."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TransientError(f"{path} is being written by another stream or process") from None
            time.sleep(0.002)
        except OSError as error:
            if error.errno in _UNLOCKABLE:
                return None
            raise


def unlock(opened: int) -> None:
    """Unlock a file that this process locked."""
    with contextlib.suppress(OSError):
        fcntl.flock(opened, fcntl.LOCK_UN)


def identity_of(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return device and inode of the file at ``path``; None if there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


class OpenedFile:
    """A file that a library holds open, and that somebody may delete or replace meanwhile."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path, self._identity = path, identity_of(path)

    def is_there(self) -> bool:
        """Tell whether the path still names this file."""
        return identity_of(self._path) == self._identity

    def check(self) -> None:
        """Raise ConnectionLost if the file was deleted or replaced."""
        if not self.is_there():
            raise ConnectionLost(f"{self._path} was deleted or replaced while it was in use; it is opened anew")


def is_at(opened: int, path: str) -> bool:
    """Tell whether ``path`` still names the open file: it was neither renamed nor replaced."""
    try:
        there, here = os.stat(path), os.fstat(opened)
    except FileNotFoundError:
        return False
    return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev)
