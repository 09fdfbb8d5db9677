"""The store on both databases, each migrated from empty: no table is made in another way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import select

from penstock.apps.health.acceptance import Outcome
from penstock.apps.health.schema import metadata
from penstock.apps.health.store.migrations import migrate
from penstock.apps.health.store.output import Store
from penstock.apps.health.store.session import Session
from penstock.platform.database import Database

_CHANGES = {"updated_at", "committed_at", "completed_at", "replaced_at", "created_at"}
_COUNTED = {"health_history", "health_quarantine"}


class Stored:
    """A database, and a store that writes to it."""

    def __init__(self, url: str) -> None:
        self.url, self.database = url, Database.of(url)
        migrate(self.database)
        self.store = Store(Session(self.database))

    def write(self, *batches: pa.RecordBatch) -> list[Outcome]:
        """Write parts in one call; return what became of the ingests that are complete."""
        settled: list[Outcome] = []
        self.store.write(batches, settled)
        return settled

    def rows(self, statement: Any) -> list[tuple[Any, ...]]:
        """Return what a statement gives."""
        return self.database.call(lambda connection: [tuple(row) for row in connection.execute(statement)])

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all rows of all tables, without when they were written and how they are numbered."""
        return {table.name: sorted(self.rows(_told(table)), key=repr) for table in metadata.sorted_tables}

    def another(self) -> Store:
        """Return another store for the same database, as of another replica."""
        return Store(Session(Database.of(self.url)))

    def close(self) -> None:
        self.store.close()
        self.database.close()


def _told(table: Any) -> Any:
    left_out = _CHANGES | ({"id"} if table.name in _COUNTED else set())
    return select(*(column for column in table.columns if column.name not in left_out))


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'penstock.db'}"
    return str(request.getfixturevalue("postgis_database"))


@pytest.fixture
def stored(url: str) -> Iterator[Stored]:
    """A store on an empty database."""
    opened = Stored(url)
    yield opened
    opened.close()


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    """Close what is given when the test ends."""
    kept: list[Any] = []

    def keep(one: Any) -> Any:
        kept.append(one)
        return one

    yield keep
    for one in kept:
        one.close()


def values(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the first column."""
    return [row[0] for row in rows]
