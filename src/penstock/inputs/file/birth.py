"""When a file was made: two files may have the same inode one after the other, and the same contents."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Any

NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES}
"""What says that a path leads to no file, or to none that we may look at."""
_EMPTY_PATH = 0x1000
_HERE = -100
_BIRTH = 0x800
_INODE = 0x100
_INODE_OFFSET = 32
_OFFSET = 80
"""Where the time of birth is in what ``statx`` returns."""


def birth_of(file: int | str, inode: int | None = None) -> int | None:
    """Return when a file was made, open or by its path, in nanoseconds since 1970; 0 where nobody tells.

    None if the file at the path has another ``inode`` or is gone.
    """
    try:
        status = os.stat(file)
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        raise
    if inode not in (None, status.st_ino):
        return None
    if (told := getattr(status, "st_birthtime", None)) is not None:
        return int(told * 1e9)
    if _statx is None:
        return 0
    found = ctypes.create_string_buffer(256)
    where = (file, b"", _EMPTY_PATH) if isinstance(file, int) else (_HERE, os.fsencode(file), 0)
    if _statx(*where, _BIRTH | _INODE, found) != 0:
        return 0
    if inode not in (None, *struct.unpack_from("=Q", found, _INODE_OFFSET)):
        return None  # renamed between the two calls
    (mask,) = struct.unpack_from("=I", found)
    seconds, nanoseconds = struct.unpack_from("=qI", found, _OFFSET)
    return int(seconds) * 10**9 + int(nanoseconds) if mask & _BIRTH else 0


def _find_statx() -> Any:
    try:
        return ctypes.CDLL(None).statx
    except (AttributeError, OSError, TypeError):  # not this kind of system
        return None


_statx = _find_statx()
