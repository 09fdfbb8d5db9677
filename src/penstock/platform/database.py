"""The database of an application: one pool of connections, used from threads, and connections beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, LiteralString, TypeVar

from sqlalchemy import Connection, MetaData, NullPool, create_engine, event, text
from sqlalchemy import Engine as Pool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateSchema

from ..clients import sqlite
from ..clients.database import Duckdb, Postgres, Sqlite, from_url
from ..errors import ConfigError, PenstockError

T = TypeVar("T")

PLAIN: LiteralString = "SET TIME ZONE 'UTC'"
"""Settings of a connection of PostgreSQL whose statements may take their time."""
POOLED: LiteralString = "SET TIME ZONE 'UTC'; SET statement_timeout = '60s'"
"""Settings of the connections of the pool."""


class Database:
    """A SQLite file, or a PostgreSQL database in which ``schema`` holds the tables, if there is one.

    ``on_wait`` is called with the seconds that each use of the pool waited for a connection.
    """

    def __init__(
        self,
        where: Postgres | Sqlite | Duckdb,
        *,
        schema: str | None = None,
        on_wait: Callable[[float], None] | None = None,
    ) -> None:
        if isinstance(where, Duckdb):
            raise ConfigError("applications keep their tables in SQLite or PostgreSQL, not in DuckDB")
        self.where: Postgres | Sqlite = where
        self.schema = schema if isinstance(where, Postgres) else None
        self._on_wait = on_wait

    @classmethod
    def of(cls, url: str, *, schema: str | None = None, on_wait: Callable[[float], None] | None = None) -> Database:
        """Return the database that ``url`` names; raises ConfigError. Nothing is opened yet."""
        try:
            return cls(from_url(url), schema=schema, on_wait=on_wait)
        except ValueError as error:
            raise ConfigError(f"PENSTOCK_DATABASE_URL: {str(error).partition('[type=')[0].strip()}") from None

    @property
    def is_postgres(self) -> bool:
        """Whether it is PostgreSQL rather than SQLite."""
        return isinstance(self.where, Postgres)

    @cached_property
    def pool(self) -> Pool:
        """The pool, made with its first use."""
        if self.is_postgres:
            return create_engine(
                "postgresql+psycopg://",
                creator=lambda: self.open(POOLED),
                pool_size=8,
                max_overflow=8,
                pool_timeout=10,
                pool_pre_ping=True,
            )
        pool = create_engine(
            "sqlite://", creator=self.open, poolclass=QueuePool, pool_size=4, max_overflow=4, pool_timeout=10
        )
        event.listen(pool, "begin", _begin)
        return pool

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
                if self._on_wait is not None:
                    self._on_wait(time.perf_counter() - asked)
                return action(connection)
        except DBAPIError as error:
            raise self.classify_error(error) from error

    async def create(self, metadata: MetaData) -> None:
        """Make the schema and the tables that are not there yet; tables that change need migrations."""

        def create(connection: Connection) -> None:
            if self.schema is not None:
                connection.execute(CreateSchema(self.schema, if_not_exists=True))
            metadata.create_all(connection)

        await self.run(create, changes=True)

    def connect(self, purpose: LiteralString = PLAIN) -> Connection:
        """Open a connection beside the pool, for one owner; closing it disconnects.

        ``purpose`` are the settings it needs on PostgreSQL. On SQLite its transactions keep out other writers.
        """
        if self.is_postgres:
            return create_engine(
                "postgresql+psycopg://", creator=lambda: self.open(purpose), poolclass=NullPool
            ).connect()
        engine = create_engine("sqlite://", creator=self.open, poolclass=NullPool)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine.connect()

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """Hold a lock that one process at a time gets: yields whether it is ours; raises PenstockError.

        SQLite has no such lock: there it is always ours.
        """
        if not self.is_postgres:
            yield True
            return
        key = {"name": f"{self.schema or ''}.{name}"}
        try:
            with self.pool.connect() as connection:
                is_ours = connection.scalar(text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))"), key)
                connection.commit()
                try:
                    yield bool(is_ours)
                finally:
                    if is_ours:
                        connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), key)
                        connection.commit()
        except DBAPIError as error:
            raise self.classify_error(error) from error

    def open(self, purpose: LiteralString = PLAIN) -> Any:
        """Open a connection of psycopg or sqlite3; raises their errors."""
        if isinstance(self.where, Sqlite):
            return sqlite.connect(self.where.path)
        from ..clients import postgres

        connection = postgres.connect(self.where, purpose)
        if self.schema is not None:  # Extensions such as PostGIS are in "public".
            name = self.schema.replace('"', '""')
            try:
                connection.execute("SELECT set_config('search_path', %s, false)", (f'"{name}", public',))
                connection.commit()
            except BaseException:
                connection.close()
                raise
        return connection

    def classify_error(self, error: Exception) -> PenstockError:
        """Return what follows from an error of the database, without its password."""
        if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
            error = error.orig
        if isinstance(self.where, Postgres):
            from ..clients import postgres

            return postgres.classify_error(error, self.where, writing=True)
        return sqlite.classify_error(error, self.where.path, writing=True)

    def close(self) -> None:
        """Close all connections of the pool."""
        if "pool" in self.__dict__:
            self.pool.dispose()


def _begin(connection: Connection) -> None:
    """Begin by hand: our connections begin nothing by themselves, so each statement would be committed on its own."""
    changes = connection.get_execution_options().get("penstock_changes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if changes else "BEGIN")
