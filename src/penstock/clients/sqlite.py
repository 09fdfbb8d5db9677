"""Connect to SQLite and classify its errors."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from pathlib import Path

import pyarrow as pa

from ..errors import ConnectionLost, PenstockError, PermanentError, TransientError
from .database import TableChanged

_LOCK_TIMEOUT = 10.0
"""How long one writer waits for another, in seconds."""
_LATER = {
    sqlite3.SQLITE_BUSY: "another process is writing",
    sqlite3.SQLITE_LOCKED: "another connection holds the table",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk failed",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_PROTOCOL: "another process is writing",
    sqlite3.SQLITE_SCHEMA: "the schema changed meanwhile",
    sqlite3.SQLITE_INTERRUPT: "it was interrupted",
}
_REFUSED = (
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_AUTH,
)
"""The file is not a database, is damaged, or may not be written."""
_CHANGED = ("no such table", "no such column", "ON CONFLICT clause does not match")
"""How errors begin that tell of a table which is gone, or has lost a column or an index."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a database file for one thread, in the mode in which readers and a writer do not wait for each other.

    What is committed is on the disk. The file and its folder are made unless ``read_only``. Transactions are
    begun by hand. Raises sqlite3.Error or OSError.
    """
    if not read_only:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not os.access(path, os.W_OK, effective_ids=True):
            # SQLite would open it, and refuse the first row.
            raise PermissionError(errno.EACCES, "the file may not be written", str(path))
    mode = "ro" if read_only else "rwc"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=_LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        if read_only:
            connection.execute("PRAGMA schema_version")
        else:
            _use_write_ahead_log(connection)
            connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch a new file to WAL, and try again where another process does it too: SQLite does not wait here."""
    deadline = time.monotonic() + _LOCK_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if _code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def arrow_type(declared: str) -> pa.DataType | None:
    """Return the Arrow type of a column's declared type; None where it may hold anything.

    Where SQLite keeps no such type (times, decimals, durations) the declaration says what the kept text or number is.
    """
    upper = declared.upper()
    if upper.startswith("DECIMAL TEXT("):
        precision, scale = (int(part) for part in upper.removeprefix("DECIMAL TEXT(").rstrip(")").split(","))
        return (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale)
    tests: list[tuple[bool, pa.DataType | None]] = [
        (upper == "", None),
        ("JSON" in upper, pa.string()),
        (upper.startswith("BOOL"), pa.bool_()),
        (upper.startswith("DURATION_NS"), pa.duration("ns")),
        (upper.startswith(("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")), pa.timestamp("us", "UTC")),
        (upper.startswith(("TIMESTAMP", "DATETIME")), pa.timestamp("us")),
        (upper == "DATE", pa.date32()),
        (upper == "TIME", pa.time64("us")),
        ("INT" in upper, pa.int64()),
        (any(word in upper for word in ("CHAR", "CLOB", "TEXT")), pa.string()),
        (upper == "BLOB", pa.binary()),
        (any(word in upper for word in ("REAL", "FLOA", "DOUB")), pa.float64()),
    ]
    return next((kind for fits, kind in tests if fits), None)


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def _is_changed(message: str) -> bool:
    return message.startswith(_CHANGED) or (message.startswith("table ") and " has no column named " in message)


def classify_error(error: Exception, path: Path, *, opening: bool = False, writing: bool = False) -> PenstockError:
    """Convert an error of the database at ``path`` to one of the five kinds of errors.

    Where rows are written (``writing``), what is wrong with the file or a table passes once somebody has mended it; a
    constraint, a type, a size or a name is wrong with the rows.
    """
    if isinstance(error, PenstockError):
        return error
    code = _code(error) if isinstance(error, sqlite3.Error) else 0
    message = f"sqlite {path}: {error}"
    if code in _LATER:
        message = f"sqlite {path}: {_LATER[code]}: {error}"
        return ConnectionLost(message) if opening else TransientError(message)
    if writing and code == sqlite3.SQLITE_ERROR and _is_changed(str(error)):
        return TableChanged(message)
    if code in _REFUSED or isinstance(error, PermissionError):
        return TransientError(message) if writing else PermanentError(message)
    if opening or code == sqlite3.SQLITE_CANTOPEN:
        return ConnectionLost(message)
    return PermanentError(message)
