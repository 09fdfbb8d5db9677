"""Connect to PostgreSQL and classify its errors."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo

from ..errors import ConnectionLost, PenstockError, PermanentError, TransientError
from .database import Postgres, redact

_SETTINGS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "penstock",
}
"""A server that has vanished is noticed within half a minute instead of hours."""
_GONE = ("08", "57P01", "57P02", "57P03", "57P05")
"""The connection broke, or the server stops, crashed or is starting."""
_LATER = ("40", "53", "55P03", "55006", "57014", "58", "25006")
"""Serialization, dead lock, no room, locks, cancelled, disk errors, and a primary that became a replica."""
_MADE_MEANWHILE = ("42P07", "42701", "42710", "42P06")
"""The table, column, index or schema has just been made by another."""


def conninfo(database: Postgres) -> str:
    """Return what libpq connects by; defaults of ours give way to what the URI says."""
    uri = database.uri.get_secret_value()
    try:
        given = psycopg.conninfo.conninfo_to_dict(uri)
    except psycopg.Error:  # Its message may quote a part of the password.
        raise PermanentError(
            "postgres: the uri cannot be read; expected postgresql://user:password@host:5432/database "
            "with the special characters of the password percent-encoded"
        ) from None
    settings = {key: value for key, value in _SETTINGS.items() if key not in given}
    if database.ssl is not None:
        ssl = database.ssl
        settings["sslmode"] = ssl.ssl_mode.replace("_", "-")
        files = {"sslrootcert": ssl.root_cert, "sslcert": ssl.client_cert, "sslkey": ssl.client_key}
        settings |= {key: str(path) for key, path in files.items() if path is not None}
    return make_conninfo(uri, **settings)


def connect(database: Postgres, settings: LiteralString) -> psycopg.Connection:
    """Open a connection with ``settings``, SQL that holds for all of its session; prepares no statements."""
    connection = psycopg.connect(conninfo(database), prepare_threshold=None)
    try:
        connection.execute(settings)
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection


def _is_race(error: Exception) -> bool:
    """Whether another session made or changed the same table at the same moment."""
    if not isinstance(error, psycopg.Error):
        return False
    in_catalogue = error.sqlstate == "23505" and error.diag.schema_name == "pg_catalog"
    changed = error.sqlstate == "XX000" and "concurrently" in str(error)
    return error.sqlstate in _MADE_MEANWHILE or in_catalogue or changed


def classify_error(error: Exception, database: Postgres, *, opening: bool = False) -> PenstockError:
    """Convert an error of this database to one of the five kinds of errors, without its password."""
    if isinstance(error, PenstockError):
        return error
    message = redact(f"postgres: {str(error).strip()}", database)
    state = getattr(error, "sqlstate", None) or ""
    if state.startswith(_GONE):
        return ConnectionLost(message)
    if state.startswith(_LATER) or _is_race(error):
        return ConnectionLost(message) if opening else TransientError(message)
    if state:
        return PermanentError(message)
    if opening and "authentication failed" in message:
        return PermanentError(message)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError):
        return ConnectionLost(message)
    return PermanentError(message)
