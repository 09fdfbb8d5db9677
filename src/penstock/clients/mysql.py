"""Connect to MySQL or MariaDB and classify their errors."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
import pymysql.cursors

from ..errors import ConfigError, ConnectionLost, PenstockError, PermanentError, TransientError
from .database import Mysql, Ssl, TableChanged, redact

CONNECT_TIMEOUT = 10
_SETTINGS = (
    "SET SESSION sql_mode = 'TRADITIONAL,ANSI_QUOTES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', "
    "innodb_lock_wait_timeout = 10, lock_wait_timeout = 10, autocommit = 0, "
    "transaction_isolation = 'READ-COMMITTED'"
)
_OF_ROWS = frozenset(
    {1048, 1062, 1064, 1069, 1070, 1071, 1074, 1101, 1110, 1113, 1117, 1118, 1138, 1166, 1167, 1170, 1216, 1217, 1264}
    | {1265, 1292, 1300, 1364, 1365, 1366, 1367, 1406, 1411, 1451, 1452, 1525, 1644, 1690, 1906, 3105, 3140, 3819}
    | {4025, 4038, 1059, 1103, 1102, 1367, 1439, 1425, 1426, 1427}
)
"""Codes of values, names and constraints, and what a trigger says."""
_CHANGED = frozenset({1054, 1146, 1061, 1050, 1060, 1412, 1032})
"""A table or column is gone, or has just been made by another."""
_GONE = frozenset({1040, 1053, 1077, 1079, 1080, 1152, 1153, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1927, 1203})
_REFUSED = frozenset({1044, 1045, 1049, 1130, 1698})
"""Refused at the door."""
_NO_TLS = 2026
_AT_ROW = re.compile(r" at row (\d+)$")


def connect(database: Mysql, settings: Sequence[str] = (), **options: Any) -> Any:
    """Open a connection whose session is strict, in UTC, and quotes names as SQL does."""
    uri = database.uri.get_secret_value()
    parts = urlsplit(uri)
    if unknown := [name for name, _ in parse_qsl(parts.query)]:
        raise ConfigError(f"mysql: the uri has the option {unknown[0]!r}, which is not known: use `ssl` and the like")
    given = {
        "host": parts.hostname or "127.0.0.1",
        "port": parts.port or 3306,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": unquote(parts.path.strip("/")) or None,
        "charset": "utf8mb4",
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": CONNECT_TIMEOUT,  # of the greeting, for which the client would wait for ever
        "program_name": "penstock",
        **options,
    }
    mode = database.ssl.ssl_mode if database.ssl is not None else "prefer"
    try:
        made = pymysql.connect(**given, **_encryption(database.ssl, mode))
    except pymysql.OperationalError as error:
        if mode != "prefer" or error.args[0] != _NO_TLS:
            raise
        made = pymysql.connect(**given, ssl_disabled=True)
    try:
        with made.cursor() as cursor:
            for statement in (_isolation(made), *settings):
                cursor.execute(statement)
        made.commit()
        made._read_timeout = options.get("read_timeout")  # from here on the deadline of the caller counts
    except BaseException:
        made.close()
        raise
    return made


def is_mariadb(connection: Any) -> bool:
    """Tell whether the server is a MariaDB rather than a MySQL."""
    return "mariadb" in connection.get_server_info().lower()


def _isolation(connection: Any) -> str:
    """MariaDB calls the isolation level by another name."""
    if is_mariadb(connection):
        return _SETTINGS.replace("transaction_isolation", "tx_isolation")
    return _SETTINGS


def _encryption(given: Ssl | None, mode: str) -> dict[str, Any]:
    if mode == "disable":
        return {"ssl_disabled": True}
    try:
        context = ssl.create_default_context(cafile=str(given.root_cert) if given and given.root_cert else None)
        if given is not None and given.client_cert is not None:
            context.load_cert_chain(given.client_cert, given.client_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"mysql: a file of `ssl` cannot be used: {error}") from error
    context.check_hostname = mode == "verify_full"
    if mode in ("prefer", "require"):
        context.verify_mode = ssl.CERT_NONE
    return {"ssl": context}


def row_of(error: Exception) -> int | None:
    """Return the index of the row of a statement that the server names; None if it names none."""
    found = _AT_ROW.search(str(error.args[1])) if len(error.args) > 1 else None
    return int(found.group(1)) - 1 if found and int(found.group(1)) > 0 else None


def classify_error(error: Exception, database: Mysql, *, opening: bool = False, writing: bool = False) -> PenstockError:
    """Convert an error of this database to one of the five kinds of errors, without its password."""
    if isinstance(error, PenstockError):
        return error
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    text = error.args[1] if len(error.args) > 1 else error
    message = redact(f"mysql: {str(text).strip()}", database)
    if opening and code in _REFUSED:
        return PermanentError(message)
    is_gone = code in _GONE or 2000 <= code < 3000 or (code == 0 and not isinstance(error, pymysql.DataError))
    if is_gone and isinstance(error, pymysql.Error | OSError):
        return ConnectionLost(message)
    if opening:
        return ConnectionLost(message)
    if code in _OF_ROWS:
        return PermanentError(message)
    if writing and code in _CHANGED:
        return TableChanged(message)
    if isinstance(error, pymysql.Error) and writing:
        return TransientError(message)
    return PermanentError(message)
