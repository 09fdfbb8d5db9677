"""Bring the tables of an application up to date."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from ..errors import PenstockError, PermanentError
from .database import Database

_one_at_a_time = threading.Lock()
"""Alembic keeps what it is doing in variables of its modules."""


def migrate(
    database: Database,
    scripts: Path,
    version_table: str,
    *,
    requires: Sequence[str] = (),
    revision: str = "head",
    on_creation: Callable[[Connection], None] | None = None,
) -> str:
    """Bring the tables up to ``revision`` in one transaction, and return the revision they then have.

    ``scripts`` is a folder of Alembic scripts whose names begin with their revisions, in their order: ``0001_keys.py``.
    ``requires`` are extensions of PostgreSQL; ``on_creation`` is called in the transaction that makes the tables.
    Several replicas may start at once: the others wait for the first. Raises
    PermanentError where an extension is missing or the tables are newer than this version of Penstock.
    """
    known = revisions(scripts)
    wanted = known[-1] if revision == "head" else revision
    try:
        with database.connect() as connection, connection.begin():
            if database.is_postgres:
                lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:table, 0))")
                connection.execute(lock, {"table": f"{database.schema or ''}.{version_table}"})
                _make_schema(connection, database.schema)
                for extension in requires:
                    _extend(connection, extension)
            found = _current(connection, version_table, database.schema)
            if found is not None and found not in known:
                raise PermanentError(
                    f"{version_table} says {found!r}: tables that a newer Penstock made need that Penstock"
                )
            if found != wanted:
                with _one_at_a_time:
                    _upgrade(connection, scripts, version_table, database.schema, wanted)
                if found is None and on_creation is not None:
                    on_creation(connection)
            return wanted
    except PenstockError:
        raise
    except (DBAPIError, OSError) as error:
        raise database.classify_error(error) from error


def current(database: Database, version_table: str) -> str | None:
    """Return the revision that the tables have; None where there are none."""
    return database.call(lambda connection: _current(connection, version_table, database.schema))


def revisions(scripts: Path) -> list[str]:
    """Return the revisions that a folder of scripts makes, the oldest first."""
    return sorted(file.name.partition("_")[0] for file in scripts.glob("[0-9]*_*.py"))


def run_statements(connection: Connection, script: str) -> None:
    """Run the statements of the file beside ``script``, a path, that is named for the database at hand."""
    file = Path(script).with_suffix(f".{connection.dialect.name}.sql")
    for statement in file.read_text().split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement)


def _current(connection: Connection, version_table: str, schema: str | None) -> str | None:
    if not inspect(connection).has_table(version_table, schema):
        return None
    quoted = connection.dialect.identifier_preparer.quote(version_table)
    where = f"{connection.dialect.identifier_preparer.quote(schema)}.{quoted}" if schema else quoted
    return cast("str | None", connection.scalar(text(f"SELECT version_num FROM {where}")))  # noqa: S608 - names of ours


def _upgrade(connection: Connection, scripts: Path, version_table: str, schema: str | None, revision: str) -> None:
    """Run the scripts. Alembic takes 40 MB and is needed once for each version."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    folder = str(scripts).replace("%", "%%")
    config = Config()
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", folder)
    directory = ScriptDirectory.from_config(config)
    with EnvironmentContext(config, directory, fn=lambda at, _: directory._upgrade_revs(revision, at)) as environment:
        environment.configure(
            connection=connection,
            version_table=version_table,
            version_table_schema=schema,
            # Without it, Alembic would commit each script by itself on SQLite.
            transactional_ddl=True,
        )
        environment.run_migrations()


def _make_schema(connection: Connection, schema: str | None) -> None:
    """Make the schema unless it is there."""
    if schema is None or connection.scalar(text("SELECT to_regnamespace(quote_ident(:name))"), {"name": schema}):
        return
    quoted = connection.dialect.identifier_preparer.quote(schema)
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {quoted}"))


def _extend(connection: Connection, extension: str) -> None:
    """Load an extension into the database, unless it is there."""
    name = {"name": extension}
    if connection.scalar(text("SELECT 1 FROM pg_extension WHERE extname = :name"), name):
        return
    if not connection.scalar(text("SELECT 1 FROM pg_available_extensions WHERE name = :name"), name):
        raise PermanentError(
            f"postgres: the extension {extension} is needed, and this server does not have it; install it there, for "
            "PostGIS by `apt-get install postgresql-15-postgis-3` or the image postgis/postgis"
        )
    quoted = connection.dialect.identifier_preparer.quote(extension)
    try:
        connection.execute(text(f"CREATE EXTENSION IF NOT EXISTS {quoted} SCHEMA public"))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", "") != "42501":
            raise
        raise PermanentError(
            f"postgres: the extension {extension} is needed, and this user may not load it; run "
            f"`CREATE EXTENSION {extension}` in the database as a superuser, once"
        ) from error
