"""The database of the health service: one pool of connections, used from threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy import Engine as Pool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from ..apps.health import metrics
from ..clients import postgres, sqlite
from ..clients.database import Duckdb, Postgres, Sqlite, from_url
from ..errors import ConfigError, PenstockError

T = TypeVar("T")


class Database:
    """Reads and small writes of the service; points are written by the stream's output."""

    def __init__(self, where: Postgres | Sqlite | Duckdb) -> None:
        if isinstance(where, Duckdb):
            raise ConfigError("the health service keeps its tables in SQLite or PostgreSQL, not in DuckDB")
        self.where: Postgres | Sqlite = where
        self.pool = _pool(where)

    @classmethod
    def of(cls, url: str) -> Database:
        """Return the database that ``url`` names; raises ConfigError. Nothing is opened yet."""
        try:
            return cls(from_url(url))
        except ValueError as error:
            raise ConfigError(f"PENSTOCK_DATABASE_URL: {str(error).partition('[type=')[0].strip()}") from None

    @property
    def is_postgres(self) -> bool:
        """Whether it is PostgreSQL rather than SQLite."""
        return isinstance(self.where, Postgres)

    async def run(self, action: Callable[[Connection], T], *, changes: bool = False) -> T:
        """Run ``action`` in a thread, in a transaction that is committed after it; raises PenstockError."""
        return await asyncio.to_thread(self.call, action, changes=changes)

    def call(self, action: Callable[[Connection], T], *, changes: bool = False) -> T:
        """Run ``action`` here, in a transaction that is committed after it; raises PenstockError.

        One that ``changes`` something says so: SQLite then waits for other writers at the beginning. Later it could not
        wait, as what was read might have changed meanwhile.
        """
        try:
            asked = time.perf_counter()
            with self.pool.connect().execution_options(penstock_changes=changes) as connection, connection.begin():
                metrics.waited(time.perf_counter() - asked)
                return action(connection)
        except DBAPIError as error:
            original = error.orig if isinstance(error.orig, Exception) else error
            raise self.classified(original) from error
        except PenstockError:
            raise

    def classified(self, error: Exception) -> PenstockError:
        """Return what follows from an error of the database, without its password."""
        if isinstance(self.where, Postgres):
            return postgres.classified(error, self.where)
        return sqlite.classified(error, self.where.path)

    def close(self) -> None:
        """Close all connections."""
        self.pool.dispose()


def _pool(where: Postgres | Sqlite) -> Pool:
    if isinstance(where, Postgres):
        settings = "SET TIME ZONE 'UTC'; SET statement_timeout = '60s'"
        return create_engine(
            "postgresql+psycopg://",
            creator=lambda: postgres.connect(where, settings),
            pool_size=8,
            max_overflow=8,
            pool_timeout=10,
            pool_pre_ping=True,
        )
    pool = create_engine(
        "sqlite://",
        creator=lambda: sqlite.connect(where.path),
        poolclass=QueuePool,
        pool_size=4,
        max_overflow=4,
        pool_timeout=10,
    )
    event.listen(pool, "begin", _begin)
    return pool


def _begin(connection: Connection) -> None:
    """Our connections begin nothing by themselves: without this, each statement would be committed on its own."""
    changes = connection.get_execution_options().get("penstock_changes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if changes else "BEGIN")
