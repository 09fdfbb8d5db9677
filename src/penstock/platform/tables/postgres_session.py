"""Connections to PostgreSQL for people: transactions that only read, and for SQL a role that may do nothing else.

It imports little, as each query starts a process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.string import TextLoader

from ...errors import PermanentError

AS_TEXT = ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "json", "jsonb", "numeric", "bytea", "xml")
"""Types whose values Python cannot hold exactly, or not as they look."""

SETTINGS = """
SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', '2s', true),
    set_config('synchronize_seqscans', 'off', true), set_config('max_parallel_workers_per_gather', '0', true),
    set_config('TimeZone', 'UTC', true), set_config('bytea_output', 'hex', true),
    set_config('standard_conforming_strings', 'on', true), set_config('client_connection_check_interval', '1s', true)
"""

ROLE = "penstock_reader"

_MISSING = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
  AND NOT has_table_privilege(%s, c.oid, 'SELECT') AND has_table_privilege(c.oid, 'SELECT WITH GRANT OPTION')
"""


def open_connection(conninfo: str, timeout: float) -> psycopg.Connection[Any]:
    """Connect for reading only; raises psycopg.Error."""
    connection = psycopg.connect(conninfo, prepare_threshold=None)
    try:
        connection.read_only = True
        for name in AS_TEXT:
            connection.adapters.register_loader(name, TextLoader)
        connection.execute(SETTINGS, [f"{max(1, int(timeout * 1000))}ms"])
    except BaseException:
        connection.close()
        raise
    return connection


def assume(conninfo: str, schemas: Sequence[str], hidden: Mapping[str, Sequence[str]]) -> sql.Composed:
    """Make the role and let it read what it may; return the statement that takes it on. Raises PermanentError."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        try:
            _make(connection)
            _grant(connection, schemas, hidden)
        except psycopg.errors.InsufficientPrivilege:
            if not _is_member(connection):
                raise PermanentError(
                    f"queries run under the role {ROLE}, which this user of the database may not make; once, as an "
                    f'administrator: CREATE ROLE {ROLE} NOLOGIN; GRANT {ROLE} TO "{connection.info.user}"'
                ) from None
    return sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(ROLE))


def _make(connection: psycopg.Connection[Any]) -> None:
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone() is None:
        with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):  # Another has just made it.
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN NOINHERIT").format(sql.Identifier(ROLE)))
    if not _is_member(connection):
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(ROLE)))


def _is_member(connection: psycopg.Connection[Any]) -> bool:
    found = connection.execute(
        "SELECT pg_has_role(r.oid, 'MEMBER') FROM pg_roles r WHERE r.rolname = %s", [ROLE]
    ).fetchone()
    return bool(found and found[0])


def _grant(connection: psycopg.Connection[Any], schemas: Sequence[str], hidden: Mapping[str, Sequence[str]]) -> None:
    role = sql.Identifier(ROLE)
    connection.execute("SELECT pg_advisory_lock(hashtextextended('penstock_reader', 0))")
    for schema in schemas:
        granted = connection.execute("SELECT has_schema_privilege(%s, %s, 'USAGE')", [ROLE, schema]).fetchone()
        if not (granted and granted[0]):
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), role))
    for schema, table in connection.execute(_MISSING, [list(schemas), ROLE]).fetchall():
        if table not in hidden.get(schema, ()):
            name = sql.Identifier(schema, table)
            connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(name, role))
