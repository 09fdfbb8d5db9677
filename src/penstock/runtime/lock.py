"""A file that one process holds, so that no other does the same at the same time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from ..errors import ConfigError


def lock(path: Path, what: str) -> IO[str]:
    """Keep other processes from ``what`` until the returned file is closed, by whatever end of this process.

    Raises ConfigError if another one has it, saying which.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read(20).strip()
        file.close()
        who = f"another process ({holder})" if holder else "another process"
        raise ConfigError(f"{what} is in use by {who}") from error
    except OSError:
        file.close()
        raise
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
