"""How the tables came to be as they are: one step for each change of the schema."""

from __future__ import annotations

from pathlib import Path

from .....platform import migration
from .....platform.database import Database

SCRIPTS = Path(__file__).parent / "versions"
VERSION_TABLE = "health_schema_version"


def migrate(database: Database, *, revision: str = "head") -> str:
    """Bring the tables of health up to ``revision`` and return the revision they then have; raises PenstockError."""
    return migration.migrate(database, SCRIPTS, VERSION_TABLE, requires=["postgis"], revision=revision)


def current(database: Database) -> str | None:
    """Return the revision that the tables of health have; None where there are none."""
    return migration.current(database, VERSION_TABLE)
