"""Connect to DuckDB and classify its errors."""

from __future__ import annotations

from pathlib import Path

import duckdb

from ..errors import ConnectionLost, PenstockError, PermanentError, TransientError
from .database import TableChanged

_SETTINGS = """
SET TimeZone = 'UTC';
SET autoinstall_known_extensions = false;
SET autoload_known_extensions = false;
"""
"""Set after connecting: DuckDB lets a process open a file twice only with the same configuration."""


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a database file; the file and its folder are made. One process at a time may hold it.

    Times are in UTC. Nothing is downloaded. Raises duckdb.Error or OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return _prepared(duckdb.connect(str(path)))


def connect_read_only(path: Path) -> duckdb.DuckDBPyConnection:
    """Open an existing file, beside other readers; within a process that writes it, beside the writer too."""
    try:
        return _prepared(duckdb.connect(str(path), read_only=True))
    except duckdb.ConnectionException:
        if not path.exists():
            raise
        return _prepared(duckdb.connect(str(path)))


def _prepared(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    connection.execute(_SETTINGS)
    return connection


def classify_error(error: Exception, path: Path, *, opening: bool = False, writing: bool = False) -> PenstockError:
    """Convert an error of the database at ``path`` to one of the five kinds of errors.

    Where rows are written (``writing``), what is wrong with the file or a table passes once somebody has mended it.
    """
    if isinstance(error, PenstockError):
        return error
    message = f"duckdb {path}: {error}"
    if isinstance(error, PermissionError):
        return TransientError(message) if writing else PermanentError(message)
    if isinstance(error, duckdb.FatalException | duckdb.ConnectionException | duckdb.InternalException):
        return ConnectionLost(message)
    if isinstance(error, duckdb.IOException | OSError):
        if opening and "not a valid DuckDB database" in str(error):
            return PermanentError(message)
        return ConnectionLost(message) if opening else TransientError(message)
    if isinstance(error, duckdb.TransactionException | duckdb.OutOfMemoryException | duckdb.InterruptException):
        return TransientError(message)
    if writing and isinstance(error, duckdb.PermissionException | duckdb.HTTPException):
        return TransientError(message)
    if writing and "read-only mode" in str(error):
        return TransientError(message)
    if writing and _tells_of_change(error):
        return TableChanged(message)
    return PermanentError(message)


def _tells_of_change(error: Exception) -> bool:
    """Tell whether a table is gone, or has lost a column or the index for ``ON CONFLICT``."""
    text = str(error)
    if isinstance(error, duckdb.CatalogException):
        return "does not exist" in text
    return isinstance(error, duckdb.BinderException) and ("does not have a column" in text or "conflict target" in text)
