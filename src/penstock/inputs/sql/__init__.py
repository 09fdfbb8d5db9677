"""Read a query's result from PostgreSQL, MySQL, SQLite or DuckDB."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime

import pyarrow as pa
from pydantic import Field as Option
from pydantic import SecretStr, field_validator, model_validator

from ...checkpoint import Checkpoint
from ...clients.database import AnyDatabase, Duckdb, Mysql, Postgres, Sqlite, any_from_url, check_choice
from ...clients.deadline import Deadline, connect
from ...clock import Clock
from ...component import Input, Progress, Reader
from ...context import Context
from ...delivery import Batch, Delivery, Position
from ...duration import Duration
from ...errors import EndOfInput, PermanentError
from ...metadata import VALUE, Origin
from ...options import Options
from ...runtime.threads import OwnThread
from . import references
from .reading import Behind, Horizon, Incremental, Once, Taken
from .source import Source


class RowCursor(Options):
    """How rows that appear later are found."""

    cursor: str
    """A column that grows: a number, or the time of the last change."""
    start: int | float | datetime | date | str | None = None
    """Where to begin: rows with this value or a greater one. Without it, with the first row."""
    interval: Duration = 10.0
    """How long to wait before looking again, once all rows were read."""
    delay: Duration = 0.0
    """How long a value of the cursor has to be there before its row is read, so that rows with smaller values that are
    committed within this time come first."""
    once: bool = False
    """Read what is there and end; the next run goes on behind it."""


class Sql(Input, type="sql"):
    """Read a query's result from PostgreSQL, MySQL, SQLite or DuckDB.

    The database itself runs the query, in its own SQL and in a transaction that can only read. Rows come as they are
    fetched, with the types that the database declares for the columns. Without `incremental` the result is read once
    and the input ends; a restart passes over as many rows as were acked, so the query should have an `ORDER BY`.

    With `incremental` the rows come in the order of the column `cursor`, and again and again those that are new or
    have changed. Rows that share a value of the cursor are never lost: those of the last value are read again and
    told apart from what was delivered, by what the database holds in them. A row that appears with a smaller value
    than was read already is not seen, and rows without a value are not read; how many there are is logged.

    A number or a time is taken when a row is written, but rows appear when they are committed: a transaction that is
    open for long brings rows with smaller values than were read. Set `delay` to the longest time that a writer may
    take, and rows are read once their value, or a greater one, has been there for so long. What takes longer cannot
    be known and is not seen. In SQLite texts are compared letter by letter: where some times have a ``T`` before the
    clock and others a space, rows may be missed, and a warning says so; make them equal in the query.

    A DuckDB file is let go of between two looks, so that others may write it.

    A table may be named as `flow.schema.table`, as `schema.table` or by its name; `FROM flow` means the only table of
    the database. What Arrow has no type for comes as text: JSON and arrays as JSON, intervals as ISO 8601, numbers
    without a scale digit by digit (cast them in the query), times of day with a zone. An infinite time or a number of
    more than 38 digits of DuckDB fails by the name of its column; of PostgreSQL it makes the column text. A column
    named `__value__` is decoded by `codec`.

    Example::

        type: sql
        url: sqlite:///data/readings.db
        select_sql: SELECT id, sensor, celsius FROM readings
        incremental: {cursor: id, interval: 5s}
    """

    ignored_keys = {"ballista": "`ballista` changes nothing: the query runs in the database"}

    select_sql: str
    """The query."""
    url: SecretStr | None = None
    """The database: `sqlite:///relative.db`, `sqlite:////absolute.db`, `duckdb:///x.duckdb`, `postgresql://...` or
    `mysql://user:password@host:3306/database`."""
    input_type: AnyDatabase | None = None
    """The database in the long form, with how its connection is encrypted; instead of `url`."""
    incremental: RowCursor | None = None
    """Read rows that are new or have changed, again and again; without it, the result is read once."""
    batch_rows: int = Option(8192, ge=1)
    """The most rows in one batch."""
    timeout: Duration = Option(3600.0, gt=0)
    """How long the database may be at work before the next rows come: then it is interrupted, and asked again."""

    @field_validator("select_sql")
    @classmethod
    def _one_query(cls, value: str) -> str:
        query = references.without_semicolon(value)
        references.check(query)
        return query

    @model_validator(mode="after")
    def _check(self) -> Sql:
        check_choice(self.url, self.input_type, "input_type", any_from_url)
        return self

    def database(self) -> Postgres | Sqlite | Duckdb | Mysql:
        """Return the database, in whichever form it was given."""
        if self.input_type is not None:
            return self.input_type
        return any_from_url(self.url.get_secret_value() if self.url is not None else "")

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Connect and describe the result; raises PermanentError if the query cannot be run."""
        checkpoint = await context.checkpoint()
        async with OwnThread(f"{context.name}-sql") as thread:
            source = await connect(thread, open_source, self.database())
            reader: _SqlReader | None = None
            try:
                async with Deadline(thread, source.interrupt, self.timeout, context.clock) as calls:
                    rows = await calls.run(self._begin, source, checkpoint, context)
                    reader = _SqlReader(self, rows, calls, checkpoint, context.clock)
                    yield reader
            finally:
                await thread.run(_close, source, reader, context)

    def _begin(self, source: Source, checkpoint: Checkpoint, context: Context) -> Once | Incremental:
        database = self.database()
        try:
            query = references.resolved(self.select_sql, database.name or "flow", source.names())
            fields = source.describe(query)
        except Exception as error:
            raise source.classify_error(error) from error
        if self.codec is not None and VALUE not in (field.name for field in fields):
            raise PermanentError(f"`codec` decodes the column {VALUE}, which the query does not have")
        if self.incremental is None:
            return Once(source, query, fields, checkpoint.position_as(Taken), self.batch_rows)
        cursor, start = self.incremental.cursor, self.incremental.start
        begin = str(start) if isinstance(start, date) else start
        horizon = Horizon(self.incremental.delay, once=self.incremental.once, now=context.clock.monotonic)
        rows = Incremental(
            source, query, fields, checkpoint.position_as(Behind), self.batch_rows, cursor, begin, horizon
        )
        if nulls := rows.nulls():
            context.log.warning("%s: %d rows have no %s and are not read", context.name, nulls, cursor)
        if doubts := rows.doubts():
            context.log.warning("%s: rows may be missed by their %s: %s", context.name, cursor, doubts)
        return rows


class _SqlReader:
    def __init__(
        self, config: Sql, rows: Once | Incremental, calls: Deadline, checkpoint: Checkpoint, clock: Clock
    ) -> None:
        self._clock = clock
        self._config, self.rows, self._calls, self._checkpoint = config, rows, calls, checkpoint
        self._fetching: asyncio.Future[tuple[Batch, Position] | None] | None = None
        self._held: tuple[Batch, Position] | None = None
        self._next = 0.0
        self._ended = False
        table, cursor = references.table_of(rows.query), config.incremental
        self._ext: dict[str, str] = {"database": config.database().type}
        self._ext |= {"table": table} if table is not None else {}
        self._ext |= {"cursor": cursor.cursor} if cursor is not None else {}

    async def read(self) -> Delivery:
        """Return the next rows; waits for new ones where the input is incremental."""
        while self._held is None:
            if self._ended:
                raise EndOfInput
            await self._clock.sleep(max(self._next - self._clock.monotonic(), 0))
            self._held = await self._fetch()
            if self._held is None:
                incremental = self._config.incremental
                soon = self.rows.wait() if isinstance(self.rows, Incremental) else None
                self._ended = incremental is None or (incremental.once and soon is None)
                interval = incremental.interval if incremental is not None else 0
                self._next = self._clock.monotonic() + (interval if soon is None else min(interval, soon))
        batch, position = self._held
        origin = Origin("sql", offset=self._checkpoint.rows, ext=self._ext)
        delivery = await self._checkpoint.deliver(batch, position, origin)
        self._held = None
        return delivery

    async def _fetch(self) -> tuple[Batch, Position] | None:
        """A fetch that was begun is finished by the next read, if this one is cancelled."""
        if self._fetching is None:
            self._fetching = self._calls.start(self._next_rows)
        fetching = self._fetching
        await asyncio.wait({fetching})
        self._fetching = None
        return fetching.result()

    def _next_rows(self) -> tuple[Batch, Position] | None:
        found = self.rows.fetch()
        if found is None or VALUE not in found[0].schema.names:
            return found
        batch, position = found
        at = batch.schema.get_field_index(VALUE)
        return batch.set_column(at, VALUE, batch.column(at).cast(pa.binary())), position

    def progress(self) -> Progress:
        """Return how many rows were delivered; how many there are is known at the end."""
        return Progress(self._checkpoint.rows, self._checkpoint.rows if self._ended else None, "rows")


def open_source(database: Postgres | Sqlite | Duckdb | Mysql) -> Source:
    """Open the database to be read; what it needs is imported only when it is used."""
    if isinstance(database, Postgres):
        from ...clients import postgres
        from .postgres import PostgresSource

        try:
            return PostgresSource(database)
        except Exception as error:
            raise postgres.classify_error(error, database, opening=True) from error
    if isinstance(database, Duckdb):
        from ...clients import duckdb
        from .duckdb import DuckdbSource

        try:
            return DuckdbSource(database.path)
        except Exception as error:
            raise duckdb.classify_error(error, database.path, opening=True) from error
    if isinstance(database, Mysql):
        from ...clients import mysql
        from .mysql import MysqlSource

        try:
            return MysqlSource(database)
        except Exception as error:
            raise mysql.classify_error(error, database, opening=True) from error
    from ...clients import sqlite
    from .sqlite import SqliteSource

    try:
        return SqliteSource(database.path)
    except Exception as error:
        raise sqlite.classify_error(error, database.path, opening=True) from error


def _close(source: Source, reader: _SqlReader | None, context: Context) -> None:
    """Close what was opened; if the connection is lost, what was read stays read."""
    try:
        if reader is not None:
            reader.rows.stop()
        source.close()
    except Exception as error:
        context.log.debug("%s: closing: %s", context.name, error)
