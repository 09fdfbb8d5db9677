"""Bring the tables of the health service up to date."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from ..clients import postgres, sqlite
from ..clients.database import Postgres
from ..errors import PermanentError
from .database import Database

_SCRIPTS = Path(__file__).parents[1] / "apps" / "health" / "store" / "migrations"
_VERSIONS = "health_schema_version"
_LOCK = 0x6865616C_74680001
"""What the replicas of a service lock while one of them migrates."""
_one_at_a_time = threading.Lock()
"""Alembic keeps what it is doing in variables of its modules."""


def migrate(database: Database, *, revision: str = "head") -> str:
    """Bring the tables up to ``revision`` in one transaction, and return the revision they then have.

    Does nothing where they have it already. Several replicas may start at once: the others wait for the first. Raises
    PermanentError where PostGIS is missing or the tables are newer than this version of Penstock.
    """
    with _one_at_a_time, _transaction(database) as connection:
        if database.is_postgres:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            _extend(connection)
        _upgrade(connection, revision)
        return _current(connection) or ""


def current(database: Database) -> str | None:
    """Return the revision that the tables have; None where there are none."""
    return database.call(_current)


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": _VERSIONS}).get_current_revision()


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise PermanentError(
            f"the tables of the health service cannot be brought to revision {revision!r}: {error}; "
            "tables that a newer Penstock made need that Penstock"
        ) from error


@contextmanager
def _transaction(database: Database) -> Iterator[Connection]:
    """Yield a connection of its own, which may take its time, in a transaction that no other may write beside."""
    where = database.where
    if isinstance(where, Postgres):
        engine = create_engine(
            "postgresql+psycopg://", creator=lambda: postgres.connect(where, "SET TIME ZONE 'UTC'"), poolclass=NullPool
        )
    else:
        engine = create_engine("sqlite://", creator=lambda: sqlite.connect(where.path), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            if not database.is_postgres:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
    except DBAPIError as error:
        raise database.classified(error.orig if isinstance(error.orig, Exception) else error) from error


def _extend(connection: Connection) -> None:
    """Load PostGIS into the database, unless it is there."""
    if connection.scalar(text("SELECT 1 FROM pg_extension WHERE extname = 'postgis'")):
        return
    if not connection.scalar(text("SELECT 1 FROM pg_available_extensions WHERE name = 'postgis'")):
        raise PermanentError(
            "postgres: the health service needs PostGIS, and this server does not have it; install it there, for "
            "example with `apt-get install postgresql-15-postgis-3` or the image postgis/postgis"
        )
    try:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS postgis"))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", "") != "42501":
            raise
        raise PermanentError(
            "postgres: the health service needs PostGIS, and its user may not load it; run `CREATE EXTENSION postgis` "
            "in the database as a superuser, once"
        ) from error
