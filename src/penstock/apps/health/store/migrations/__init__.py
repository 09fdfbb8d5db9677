"""How the tables came to be as they are: one step for each change of the schema."""

from __future__ import annotations

from pathlib import Path

from .....platform import migration
from .....platform.database import Database
from .....platform.relocation import move_into_schema
from ...schema import metadata

SCRIPTS = Path(__file__).parent / "versions"
SCHEMA = "health"
"""The schema of PostgreSQL in which the tables are."""
VERSION_TABLE = "health_schema_version"
MOVED = (*metadata.tables, "health_users", "health_keys", "health_audit")
"""The tables that move with this version's; access takes over the last three, if it could not do so before."""


def migrate(database: Database, *, revision: str = "head") -> str:
    """Bring the tables of health up to ``revision`` and return the revision they then have; raises PenstockError.

    Tables that an older version made in the schema ``public`` are moved to the one of ``database`` before.
    """
    if database.schema is not None:
        move_into_schema(database, MOVED, VERSION_TABLE)
    return migration.migrate(database, SCRIPTS, VERSION_TABLE, requires=["postgis"], revision=revision)


def current(database: Database) -> str | None:
    """Return the revision that the tables of health have; None where there are none."""
    return migration.current(database, VERSION_TABLE)
