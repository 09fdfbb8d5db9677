"""Keep what is written from the other users of the machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OTHERS = 0o077
"""The rights that nobody but the owner has."""


@contextmanager
def keep_private(folder: Path) -> Iterator[None]:
    """Make ``folder`` 0700, and every file that is made meanwhile 0600, whatever the umask of the shell is.

    Databases that an older version left readable are closed to others as well. The umask is that of the whole process.
    """
    before = os.umask(OTHERS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder, *folder.glob("*.db*")):
            with suppress(FileNotFoundError):  # who reads a SQLite file makes files beside it, and takes them away
                _close(path)
        yield
    finally:
        os.umask(before)


def _close(path: Path) -> None:
    found = path.stat()
    if found.st_uid == os.geteuid() and found.st_mode & OTHERS:
        path.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)
