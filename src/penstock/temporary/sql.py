"""Look rows up in a database."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pyarrow as pa
from pydantic import Field as Option
from pydantic import SecretStr, field_validator, model_validator

from ..clients.database import Database, Duckdb, Postgres, Sqlite, check_choice, from_url
from ..clients.deadline import Deadline, connect
from ..component import Found, Lookup, Temporary
from ..context import Context
from ..delivery import Batch
from ..duration import Duration
from ..errors import ConnectionLost, PenstockError, PermanentError
from ..inputs.sql import open_source, references
from ..inputs.sql.source import Field, Source, quoted, text
from ..runtime.threads import OwnThread
from .file import Rows

_KEYS_PER_STATEMENT = 1000
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")


class Sql(Temporary, type="sql"):
    """Look rows up in PostgreSQL, SQLite or DuckDB, by their key.

    The database is asked for the rows of the keys of each batch, a thousand at a time, in a transaction that can only
    read. Give it an index on the key. Several rows may have one key. With `cache_ttl` what was found, and that nothing
    was, is remembered for a while. Numbers, texts and whatever the database casts to text can be keys.

    Example::

        type: sql
        name: sensors
        url: sqlite:///data/sensors.db
        select_sql: SELECT id, site, owner FROM sensors
        key: id
        cache_ttl: 5m
    """

    select_sql: str
    """The query whose rows are looked up."""
    key: str
    """The column of its result by which rows are found."""
    url: SecretStr | None = None
    """The database: `sqlite:///relative.db`, `sqlite:////absolute.db`, `duckdb:///x.duckdb` or `postgresql://...`."""
    input_type: Database | None = None
    """The database in the long form, with how its connection is encrypted; instead of `url`."""
    timeout: Duration = Option(60.0, gt=0)
    """How long the database may work on the keys of a batch; then it is asked again."""

    @field_validator("select_sql")
    @classmethod
    def _one_query(cls, value: str) -> str:
        query = references.without_semicolon(value)
        references.check(query)
        return query

    @model_validator(mode="after")
    def _check(self) -> Sql:
        check_choice(self.url, self.input_type, "input_type")
        if self.codec is not None:
            raise ValueError("`codec` is for payloads, and a database has columns")
        return self

    def database(self) -> Postgres | Sqlite | Duckdb:
        """Return the database, in whichever form it was given."""
        if self.input_type is not None:
            return self.input_type
        return from_url(self.url.get_secret_value() if self.url is not None else "")

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Lookup]:
        """Connect and describe the result; raises PermanentError if the query cannot be run."""
        async with OwnThread(f"{context.name}-sql") as thread:
            source = await connect(thread, open_source, self.database())
            try:
                async with Deadline(thread, source.interrupt, self.timeout, context.clock) as calls:
                    yield _SqlLookup(self, source, await calls.run(self._described, source), calls)
            finally:
                await thread.run(source.close)

    def _described(self, source: Source) -> tuple[str, Sequence[Field]]:
        try:
            query = references.resolved(self.select_sql, self.database().name or "flow", source.names())
            fields = source.describe(query)
        except Exception as error:
            raise source.classify_error(error) from error
        if self.key not in [field.name for field in fields]:
            names = ", ".join(field.name for field in fields)
            raise PermanentError(f"there is no column {self.key!r} to find rows by, among {names}")
        return query, fields


class _SqlLookup:
    def __init__(self, options: Sql, source: Source, described: tuple[str, Sequence[Field]], calls: Deadline) -> None:
        self._options, self._source, self._calls = options, source, calls
        self._query, self._fields = described
        kind = next(field.type for field in self._fields if field.name == options.key)
        self._is_number, self._is_text = pa.types.is_integer(kind), pa.types.is_string(kind)

    async def find(self, keys: pa.StringArray) -> Found:
        return await self._calls.run(self._find, keys)

    def _find(self, keys: pa.StringArray) -> Found:
        asked = [key for key in keys.to_pylist() if not self._is_number or _WHOLE_NUMBER.fullmatch(key)]
        parts: list[Batch] = []
        try:
            for at in range(0, len(asked), _KEYS_PER_STATEMENT):
                statement = self._statement(asked[at : at + _KEYS_PER_STATEMENT])
                parts += [found.batch for found in self._source.stream(statement, self._fields, 8192)]
        except Exception as error:
            known = self._source.classify_error(error)
            # A query that was run before has no row that is wrong: what is in the way is the database.
            raise ConnectionLost(str(known)) if isinstance(known, PermanentError) else known from error
        return Rows(_united(parts, self._fields), self._options.key).find(keys)

    def _statement(self, keys: Sequence[str]) -> str:
        """Return the query for these keys, as literals: what reads the result as it comes takes no parameters."""
        columns = ", ".join(f"{field.expression} AS {quoted(field.name)}" for field in self._fields)
        name = f"penstock.{quoted(self._options.key)}"
        name = name if self._is_number or self._is_text else f"CAST({name} AS {self._text_type()})"
        listed = ", ".join(key if self._is_number else text(key) for key in keys)
        return f"SELECT {columns} FROM ({self._query}\n) AS penstock WHERE {name} IN ({listed})"  # noqa: S608

    def _text_type(self) -> str:
        return "TEXT" if not isinstance(self._options.database(), Duckdb) else "VARCHAR"


def _united(parts: Sequence[Batch], fields: Sequence[Field]) -> Batch:
    if not parts:
        return pa.RecordBatch.from_pylist([], schema=pa.schema([(field.name, field.type) for field in fields]))
    try:
        whole = pa.concat_tables([pa.Table.from_batches([one]) for one in parts], promote_options="permissive")
    except pa.ArrowException as error:
        raise PenstockError(f"the columns of two rows that were looked up do not agree: {error}") from error
    batches = whole.combine_chunks().to_batches()
    return batches[0] if batches else parts[0]
