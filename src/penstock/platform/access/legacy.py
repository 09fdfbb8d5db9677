"""Make the tables of access, and take over the users, keys and audit that older versions kept among health's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, func, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError

from ...application import Installation
from ...clients.database import Duckdb, Sqlite
from ...runtime.logfolder import hold
from ..database import Database
from ..migration import current, migrate
from ..ownership import database_of, rows_database
from .schema import OWNER, SCRIPTS, VERSION_TABLE, audit, keys, users

BATCH_SIZE = 1000
_PREDECESSORS = {users: "health_users", keys: "health_keys", audit: "health_audit"}
"""The tables in the order in which rows may be put into them, and what they were called."""
_MARKER = "health_schema_version"
"""The table that stood beside them."""
_SCOPES = {"ingest": "health.ingest", "read": "health.read", "export": "health.export", "admin": "health.admin"}
_LOGS = ("health-audit", "platform-audit")
"""What the stream of the audit was called, and is called now."""


def prepare(installation: Installation) -> str:
    """Make the tables or bring them up to date, and return their revision; raises PenstockError.

    The transaction that makes them takes over the rows of an older version. Later nothing is read there: whoever may
    write rows could put keys there.
    """
    _rename_log(installation)
    with closing(database_of(installation, OWNER)) as database:
        is_first = current(database, VERSION_TABLE) is None
        for previous in _places(installation):
            with closing(previous):
                if not previous.call(partial(_is_there, previous.schema)):
                    continue
                in_use = _in_use(installation, previous) if is_first else nullcontext()
                with in_use, _exclusive(previous) as source:
                    if not _is_there(previous.schema, source):  # Another process has just done it.
                        continue
                    take_over = partial(_take_over, source, previous.schema)
                    revision = migrate(database, SCRIPTS, VERSION_TABLE, on_creation=take_over)
                    _drop(source, previous.schema)  # A crash before this leaves them to the next start.
                return revision
        return migrate(database, SCRIPTS, VERSION_TABLE)


def _places(installation: Installation) -> Iterator[Database]:
    """Yield where older versions kept the tables: among health's own, and before that beside the rows."""
    rows = rows_database(installation)
    if isinstance(rows, Duckdb):
        return
    for place in (database_of(installation, "health"), Database(rows, schema="public")):
        if not isinstance(place.where, Sqlite) or place.where.path.exists():
            yield place


def _is_there(schema: str | None, connection: Connection) -> bool:
    return {_MARKER, *_PREDECESSORS.values()}.issubset(inspect(connection).get_table_names(schema))


def _in_use(installation: Installation, place: Database) -> Any:
    """Return what keeps an older version from running meanwhile: it would go on to write into its own tables."""
    return hold(installation.data / "wal" / "health") if isinstance(place.where, Sqlite) else nullcontext()


@contextmanager
def _exclusive(place: Database) -> Iterator[Connection]:
    """Yield a connection in a transaction that keeps everybody else from the old tables."""
    try:
        with place.connect() as connection, connection.begin():
            if place.is_postgres:
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('health_keys', 2))"))
                if _is_there(place.schema, connection):
                    names = ", ".join(_qualified(connection, place.schema, name) for name in _PREDECESSORS.values())
                    connection.execute(text(f"LOCK TABLE {names}"))
            yield connection
    except DBAPIError as error:
        raise place.classify_error(error) from error


def _take_over(source: Connection, schema: str | None, target: Connection) -> None:
    """Copy all rows."""
    for table, name in _PREDECESSORS.items():
        old = Table(name, MetaData(), *(Column(column.name, column.type) for column in table.c), schema=schema)
        for part in source.execute(select(old)).mappings().partitions(BATCH_SIZE):
            target.execute(insert(table), [_translate(table, dict(row)) for row in part])
    if target.dialect.name == "postgresql":
        sequence = func.pg_get_serial_sequence(users.name, "id")
        following = select(func.coalesce(func.max(users.c.id), 0) + 1).scalar_subquery()
        target.execute(select(func.setval(sequence, following, False)))


def _translate(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as it is kept now: prefixes are whole, and scopes are named with their application."""
    if table is keys:
        row["prefix"] = f"hea_{row['prefix']}"
        row["scopes"] = json.dumps([_SCOPES.get(scope, scope) for scope in json.loads(row["scopes"])])
        if row["limits"]:
            limits = json.loads(row["limits"])
            row["limits"] = json.dumps({_SCOPES.get(name, name): limit for name, limit in limits.items()})
    return row


def _drop(source: Connection, schema: str | None) -> None:
    for name in reversed(_PREDECESSORS.values()):
        source.execute(text(f"DROP TABLE {_qualified(source, schema, name)}"))


def _qualified(connection: Connection, schema: str | None, name: str) -> str:
    quote = connection.dialect.identifier_preparer.quote
    return f"{quote(schema)}.{quote(name)}" if schema else quote(name)


def _rename_log(installation: Installation) -> None:
    """Give the log of the audit its new name, so that rows which an older version left in it are written."""
    old, new = (installation.data / "wal" / name for name in _LOGS)
    if old.is_dir() and not new.exists():
        with hold(old):
            old.rename(new)
