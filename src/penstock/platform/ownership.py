"""Which application owns which tables: a schema of PostgreSQL, or a file of SQLite, of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..application import Installation
from ..clients.database import Duckdb, Postgres, Sqlite, from_url, space
from ..errors import ConfigError

if TYPE_CHECKING:
    from .database import Database

LEGACY_TABLES = frozenset(
    f"health_{name}"
    for name in [
        "users",
        "keys",
        "ingests",
        "parts",
        "points",
        "workouts",
        "series",
        "routes",
        "quarters",
        "metrics",
        "history",
        "quarantine",
        "characteristics",
        "audit",
        "quality",
        "schema_version",
    ]
)
"""Tables that older versions kept beside the rows of the inbox; no row may be posted into them before they moved."""

LEGACY_PARTITIONS = ("health_points_*", "health_series_*", "health_routes_*")
"""How their partitions in PostgreSQL were called."""


def rows_database(installation: Installation) -> Postgres | Sqlite | Duckdb:
    """Return the database of the rows of an installation; raises ConfigError for a URL that names none."""
    try:
        return from_url(installation.rows_url)
    except ValueError as error:
        raise ConfigError(
            f"PENSTOCK_DATABASE_URL: {str(error).partition('[type=')[0].strip()}", path="database"
        ) from error


def database_of(installation: Installation, owner: str, *, on_wait: Callable[[float], None] | None = None) -> Database:
    """Return the database of ``owner``, an application or the platform; raises ConfigError. Nothing is opened yet.

    Beside the file of rows `penstock.db` it is `penstock-<owner>.db`; in PostgreSQL it is the schema of that name.
    """
    from .database import Database  # Its packages are needed only by applications that have tables.

    return Database(own(rows_database(installation), owner), schema=owner, on_wait=on_wait)


def own(rows: Postgres | Sqlite | Duckdb, owner: str) -> Postgres | Sqlite | Duckdb:
    """Return where the tables of ``owner`` are, given where the rows are."""
    if isinstance(rows, Sqlite):
        return Sqlite(path=rows.path.with_name(f"{rows.path.stem}-{owner}{rows.path.suffix}"))
    if isinstance(rows, Duckdb):  # It takes one process at a time.
        return Sqlite(path=rows.path.with_name(f"{rows.path.stem}-{owner}.db"))
    return rows


def files_beside(installation: Installation) -> dict[str, Path]:
    """Return the SQLite files of the owners beside that of the rows, by owner; none in PostgreSQL."""
    rows = rows_database(installation)
    if isinstance(rows, Postgres):
        return {}
    start = f"{rows.path.stem}-"
    found = rows.path.parent.glob(f"{start}*{rows.path.suffix if isinstance(rows, Sqlite) else '.db'}")
    return {file.stem.removeprefix(start): file for file in found if file.stem.removeprefix(start).isidentifier()}


def url_of(installation: Installation, owner: str) -> str:
    """Return the URL of the database of ``owner``; raises ConfigError. On a server its schema is named beside it."""
    where = own(rows_database(installation), owner)
    return f"sqlite:///{quote(str(where.path))}" if isinstance(where, Sqlite) else installation.rows_url


def space_of(installation: Installation, owner: str) -> str:
    """Return the place of ``Output.spaces`` that belongs to ``owner``; raises ConfigError."""
    return space(own(rows_database(installation), owner), owner)
