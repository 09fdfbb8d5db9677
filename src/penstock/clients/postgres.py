"""Connect to PostgreSQL and classify its errors."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo

from ..errors import ConnectionLost, PenstockError, PermanentError, TransientError
from .database import Postgres, TableChanged, redact

_SETTINGS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "penstock",
}
"""A server that has vanished is noticed within half a minute instead of hours."""
ANSWER_TIMEOUT = 30.0
"""Seconds of silence after which the server is asked, over another connection, whether it still works on a call."""
ASKING_TIMEOUT = 5
"""Seconds that it has to say so."""
_GONE = ("08", "57P01", "57P02", "57P03", "57P04", "57P05", "25006", "25P03", "26", "28", "34", "3D000")
"""The connection broke or is in no state to go on; the server stops, crashed, is starting or became a replica, which a
session does not forget; the database or the role is gone; the password is another."""
_PASSING = ("40", "53", "55", "57", "58", "25", "F0")
"""Serialization, dead lock, no room, locks, cancelled, disk errors, settings."""
_LATER = ("XX", "HV", "0L", "0P", "42501", "3F000", "42704", "42883")
"""Damage, a foreign server, and what somebody took away: a permission, a schema, a type, a function."""
_MADE_MEANWHILE = ("42P07", "42701", "42710", "42P06")
"""The table, column, index or schema has just been made by another."""
_CHANGED = ("42P01", "42703", "42P10")
"""The table, a column or the index for ``ON CONFLICT`` is gone."""
_ALSO_RAISED = ("57014", "42")
"""What the server says of itself, and triggers of rows: cancelled, a permission."""
_REFUSED = ("28", "3D000")
"""Refused at the door: a configuration that is wrong, as long as it has never worked."""


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


class Connection(psycopg.Connection[Any]):
    """A connection whose calls end with an answer, or when the server no longer says that it works on them."""

    is_interrupted = False
    """Set by another thread, ends the call that waits for an answer, and with it the connection."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer; raises OperationalError if there will be none."""
        return super().wait(self._watched(gen), interval, timeout)

    def _watched(self, gen: Any) -> Any:
        heard, is_given_up = time.monotonic(), False
        try:
            state = next(gen)
            while True:
                ready = yield state
                if self.is_interrupted:
                    self._give_up()
                if ready:
                    heard, is_given_up = time.monotonic(), False
                elif is_given_up:  # nor has the answer come while we asked
                    raise psycopg.OperationalError(f"no answer for {ANSWER_TIMEOUT:.0f} s: the connection is given up")
                elif time.monotonic() - heard > ANSWER_TIMEOUT:
                    heard, is_given_up = time.monotonic(), not self._is_working()
                state = gen.send(ready)
        except StopIteration as end:
            return end.value

    def _give_up(self) -> None:
        """Have the server end what it works on, so that it holds no locks, and close the connection."""
        with suppress(psycopg.Error):
            self.cancel_safe(timeout=ASKING_TIMEOUT)
        self.close()
        raise psycopg.OperationalError("the call was interrupted: the connection is closed")

    def _is_working(self) -> bool:
        """Ask the server, over another connection, whether it still works on the call of this one."""
        try:
            with _Asking.connect(self.info.dsn, password=self.info.password, connect_timeout=ASKING_TIMEOUT) as asking:
                query = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state NOT LIKE 'idle%%'"
                return asking.execute(query, (self.info.backend_pid,)).fetchone() is not None
        except psycopg.Error:
            return False


class _Asking(psycopg.Connection[Any]):
    """A connection with a short timeout."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer; raises OperationalError if there is none in time."""
        return super().wait(gen, interval, timeout or ASKING_TIMEOUT)


def connect(database: Postgres, settings: LiteralString) -> Connection:
    """Open a connection with ``settings``, SQL that holds for all of its session; prepares no statements.

    A call over it that is not answered raises OperationalError after ``ANSWER_TIMEOUT``, unless the server says that
    it still works on it.
    """
    connection = Connection.connect(conninfo(database), prepare_threshold=None)
    try:
        connection.execute(settings)
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection


def _is_race(error: Exception) -> bool:
    """Tell whether another session made or changed the same table at the same moment."""
    if not isinstance(error, psycopg.Error):
        return False
    if "system column" in str(error):  # No such column can ever be made.
        return False
    in_catalogue = error.sqlstate == "23505" and error.diag.schema_name == "pg_catalog"
    changed = error.sqlstate == "XX000" and "concurrently" in str(error)
    return error.sqlstate in _MADE_MEANWHILE or in_catalogue or changed


def _diagnosed(error: Exception) -> str | None:
    """The function of the server in which an error came up, which is the same in every language."""
    return error.diag.source_function if isinstance(error, psycopg.Error) else None


def classify_error(
    error: Exception, database: Postgres, *, opening: bool = False, writing: bool = False
) -> PenstockError:
    """Convert an error of this database to one of the five kinds of errors, without its password.

    Where rows are written (``writing``), what is wrong with a table, a permission or the server passes once somebody
    has mended it; all else is wrong with the rows: values, names, a constraint or a trigger that refuses them.
    Elsewhere the same states say that a statement can never be run.
    """
    if isinstance(error, PenstockError):
        return error
    message = redact(f"postgres: {str(error).strip()}", database)
    state = getattr(error, "sqlstate", None) or ""
    if writing and state.startswith(_ALSO_RAISED) and _diagnosed(error) == "exec_stmt_raise":
        return PermanentError(message)  # a trigger refuses the row in these words
    if opening and (state.startswith(_REFUSED) or (not state and "authentication failed" in message)):
        return PermanentError(message)
    if state.startswith(_GONE):
        return ConnectionLost(message)
    if state.startswith(_PASSING) or _is_race(error):
        return ConnectionLost(message) if opening else TransientError(message)
    if writing and state == "42P10" and _diagnosed(error) == "CopyGetAttnums":
        return PermanentError(message)  # not the index for ON CONFLICT: a row has a value for a generated column
    if writing and (state.startswith(_CHANGED) or "cached plan must not change" in message):
        return TableChanged(message)
    if writing and state.startswith(_LATER):
        return TransientError(message)
    if state:
        return PermanentError(message)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError):
        return ConnectionLost(message)
    return PermanentError(message)
