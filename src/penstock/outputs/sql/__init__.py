"""Write rows to tables of PostgreSQL, MySQL, SQLite or DuckDB."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pydantic import Field, SecretStr, field_validator, model_validator

from ...clients.database import AnyDatabase, Duckdb, Mysql, Postgres, Sqlite, any_from_url, check_choice, space
from ...clients.deadline import Deadline, connect
from ...component import Output, TransactionalWriter
from ...context import Context
from ...duration import Duration
from ...runtime.threads import OwnThread
from ...sql.expression import Expr
from .parts import Target
from .session import Session
from .writer import SqlWriter


class Sql(Output, type="sql"):
    """Write rows to tables of PostgreSQL, MySQL, SQLite or DuckDB.

    The batches of one call are one transaction: they are durable when it returns, or none of them is there. With
    `checkpoint: output` the positions of the input are part of that transaction, in the table
    `_penstock_checkpoints`, so that each row is there exactly once. With `key` a row takes the place of the one that
    has the same key, so that a row which comes again does no harm.

    Tables and columns are made from the rows, and columns that appear later are added. Whole numbers, fractions, text,
    bytes, decimals, dates, times, timestamps and durations keep their type; lists, structs and maps are kept as JSON.
    A column of which only nulls came so far is made when its type is known. Where a table exists its columns decide: a
    value that fits without loss is converted (a whole number in a column of fractions, a number as text), and a column
    of whole numbers, if it is not a key, is widened for a fraction where all that is in it stays exact. A list is
    written into an array of PostgreSQL such as `text[]`, and a text such as `PT1H` or `1 hour` into an `interval`; a
    number without a unit is not a duration. PostgreSQL keeps microseconds, and so does DuckDB where there is a zone
    and in a column `TIME` (it makes `TIME_NS` for nanoseconds): what is finer is cut. SQLite keeps no sign of a zero.
    `__meta_*` columns are left out.

    A field that a row lacks is not written: a new row takes the default of the column, and a row whose `key` is there
    already keeps its value; a field that is null is written as NULL. JSON tells the two apart, also through `filter`,
    buffers and `SELECT *`; behind a query that names its columns, what is null is null.

    A row that does not fit is refused with its own reason, and nothing else: a value that the column cannot hold
    exactly, a time outside of the years 1 to 9999 (DuckDB has more), a name that the database does not take as a
    column (empty, with control characters, too long, a system column), two names that are one to SQLite and DuckDB
    because they differ by case alone, a column more than a table can have (2000 in SQLite, 1600 in PostgreSQL), a
    constraint. A null in a column that is not there loses nothing, whatever its name.

    MySQL and MariaDB have no zones: timestamps are kept in UTC. There a time of day is `TIME(6)`, a duration is
    text, and a text that is a key has up to 191 letters. Infinity and NaN are refused. `key` means the key alone: a row
    that is in the way of another unique index is refused, and replaces nothing.

    `table_name` may be computed for each row, so that the rows of a batch go to several tables. Such a name cannot
    reach another schema or a table of the database itself; a constant one may name a schema, as in `public.readings`.

    A SQLite file can be read and written by others meanwhile; a DuckDB file is held by this process alone.

    Example::

        type: sql
        url: sqlite:///data/readings.db
        table_name: readings
        key: [sensor, time]
    """

    url: SecretStr | None = None
    """The database: `sqlite:///relative.db`, `sqlite:////absolute.db`, `duckdb:///x.duckdb`, `postgresql://...` or
    `mysql://user:password@host:3306/database`."""
    output_type: AnyDatabase | None = None
    """The database in the long form, with how its connection is encrypted; instead of `url`."""
    table_name: Expr
    """The table, or an expression that gives it for each row."""
    schema_name: str | None = None
    """The schema of PostgreSQL that tables are in whose names say none; it is made if it is missing."""
    reserved_names: list[str] = []
    """Names that no table has whose name comes from the rows; `health_*` stands for all that begin so."""
    key: list[str] = []
    """The columns that tell rows apart: a row takes the place of the one with the same key. Without it, rows add up."""
    upsert: bool = False
    """Another way to ask for `key`: needs `upsert_keys`."""
    upsert_keys: list[str] = []
    """Another name for `key`."""
    create: bool = True
    """Make missing tables and columns, and widen columns; otherwise rows that need a column are refused, and a missing
    table is waited for."""

    timeout: Duration = Field(600.0, gt=0)
    """How long the database may be at work on one write, and on the index or the type of a table: then it is
    interrupted, which is shown, and tried again."""

    @model_validator(mode="after")
    def _check(self) -> Sql:
        check_choice(self.url, self.output_type, "output_type", any_from_url)
        if self.key and self.upsert_keys and self.key != self.upsert_keys:
            raise ValueError("`key` and `upsert_keys` mean the same: expected one of them")
        if self.schema_name and not isinstance(self.database(), Postgres):
            raise ValueError("`schema_name` is for PostgreSQL: a file has no schemas")
        if self.upsert and not (self.key or self.upsert_keys):
            raise ValueError("`upsert: true` needs `upsert_keys`, the columns that tell rows apart")
        return self

    def database(self) -> Postgres | Sqlite | Duckdb | Mysql:
        """Return the database, in whichever form it was given."""
        if self.output_type is not None:
            return self.output_type
        return any_from_url(self.url.get_secret_value() if self.url is not None else "")

    @field_validator("reserved_names", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    def spaces(self) -> Sequence[str]:
        """Return the schema or the file that its tables are in."""
        schema, dot, _ = (self.table_name.constant or "").rpartition(".")
        return [space(self.database(), schema if dot else self.schema_name or "")]

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[TransactionalWriter]:
        """Connect; the writer keeps positions too."""
        payloads = self.payloads if self.codec is not None else None
        target = Target(
            self.table_name, tuple(self.key or self.upsert_keys), self.create, payloads, tuple(self.reserved_names)
        )
        async with OwnThread(f"{context.name}-sql") as thread:
            session = await connect(thread, _connect, self.database(), self.schema_name)
            try:
                async with Deadline(thread, session.interrupt, self.timeout, context.clock) as calls:
                    yield SqlWriter(session, calls, target, context.seen)
            finally:
                await thread.run(_close, session, context)


def _connect(database: Postgres | Sqlite | Duckdb | Mysql, schema: str | None) -> Session:
    """Import what the database needs only when it is used."""
    if isinstance(database, Postgres):
        from ...clients import postgres
        from .postgres import PostgresSession

        try:
            return PostgresSession(database, schema)
        except Exception as error:
            raise postgres.classify_error(error, database, opening=True) from error
    if isinstance(database, Duckdb):
        from ...clients import duckdb
        from .duckdb import DuckdbSession

        try:
            return DuckdbSession(database.path)
        except Exception as error:
            raise duckdb.classify_error(error, database.path, opening=True) from error
    if isinstance(database, Mysql):
        from ...clients import mysql
        from .mysql import MysqlSession

        try:
            return MysqlSession(database)
        except Exception as error:
            raise mysql.classify_error(error, database, opening=True) from error
    from ...clients import sqlite
    from .sqlite import SqliteSession

    try:
        return SqliteSession(database.path)
    except Exception as error:
        raise sqlite.classify_error(error, database.path, opening=True) from error


def _close(session: Session, context: Context) -> None:
    """A connection that is lost cannot be closed in good order; everything committed is there all the same."""
    try:
        session.close()
    except Exception as error:
        context.log.debug("%s: closing: %s", context.name, error)
