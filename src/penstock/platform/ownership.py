"""Which tables belong to whom: a file, or a schema of PostgreSQL, for each application and one for the platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..application import Installation
from ..clients.database import Duckdb, Postgres, Sqlite, from_url
from ..errors import ConfigError

if TYPE_CHECKING:
    from .database import Database


def rows_database(installation: Installation) -> Postgres | Sqlite | Duckdb:
    """Return the database of the inbox's rows; raises ConfigError if the URL names none."""
    try:
        return from_url(installation.rows_url)
    except ValueError as error:
        raise ConfigError(f"PENSTOCK_DATABASE_URL: {str(error).partition('[type=')[0].strip()}") from error


def database_of(installation: Installation, owner: str) -> Database:
    """Return the database of ``owner``, an application or the platform; raises ConfigError. Nothing is opened yet.

    Beside the file of rows `penstock.db` it is `penstock.<owner>.db`; in PostgreSQL it is the schema of that name.
    """
    from .database import Database  # Its packages are needed only by applications that have tables.

    return Database(own(rows_database(installation), owner), schema=owner)


def own(rows: Postgres | Sqlite | Duckdb, owner: str) -> Postgres | Sqlite | Duckdb:
    """Return where the tables of ``owner`` are, given where the rows are."""
    if isinstance(rows, Sqlite):
        return Sqlite(path=rows.path.with_name(f"{rows.path.stem}.{owner}{rows.path.suffix}"))
    return rows
