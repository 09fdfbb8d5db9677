"""Run SQL queries over each batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property

import pyarrow as pa
from pydantic import Field, model_validator

from ..component import Lookup, Process, Processor
from ..context import Context
from ..delivery import Batch
from ..errors import ConfigError
from ..metadata import ABSENT, PREFIX
from ..options import Options
from ..sql.expression import Expr
from ..sql.joined import JoinedQuery
from ..sql.query import PreparedQuery
from ..sql.statement import split


class Enrichment(Options):
    """A temporary table that a query joins."""

    name: str
    """The name of the table in `temporary` of the stream."""
    table_name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The name by which the query calls it."""
    key: Expr
    """The key of a row, whose rows are looked up: usually `{type: expr, expr: <SQL expression>}`."""


class Sql(Processor, type="sql"):
    """Run SQL queries over each batch, which a query sees as the table ``flow``.

    Several queries, with a semicolon between two, run one after the other: each sees what the one before it made. A
    query is planned once for each schema that comes, by DataFusion, whose SQL it speaks. It sees one batch at a time:
    to aggregate over more rows, regroup them first with a buffer. A batch without rows is not queried, and a result
    without rows is filtered.

    ``__meta_*`` columns are columns like any other. A query that only projects and filters keeps them beside what it
    selects; one that makes rows out of several keeps what it selects. What a row lacks stays apart from null only in
    ``SELECT *``: a column that is named is null, and is written as such.

    Besides the functions of DataFusion there are ``json_get``, ``json_get_str``, ``json_get_int``,
    ``json_get_float``, ``json_get_bool``, ``json_get_json``, ``json_get_array``, ``json_as_text``, ``json_contains``,
    ``json_length`` and ``json_object_keys``, which take a JSON text and up to four keys or indexes; where there is
    nothing of that kind they return null. ``payload->'user'->>'name'`` is read as in PostgreSQL: ``->`` gives JSON,
    ``->>`` text, and a cast of either needs brackets, as in ``(payload->>'age')::int``.

    Unquoted names are taken in lower case: write ``"deviceId"`` in double quotes. Only queries are accepted;
    syntax, tables and functions are checked when the stream is built. A value that cannot be computed, or a column
    that a batch lacks, refuses the rows. If the query only projects and filters, each row is refused by itself.

    Arithmetic on integers, decimals, dates, times and durations is exact: a result that its type cannot hold is an
    error, never another number. This is so for ``+``, ``-``, ``*``, ``/``, ``%``, signs, shifts, ``abs``, casts and
    ``sum``, in aggregates and windows too, and for whole numbers of any length that the query names. What has a
    fraction (``double``, ``avg``, ``median``, ``power``) is computed in 64-bit floating point, as SQL does it.

    Functions of one's own in Python, for rows, aggregates and windows, come with the option ``functions`` of the file
    or the decorators of ``penstock.udf``: a function that raises refuses its row.

    ``temporary_list`` names tables beside the stream, of type `file` or `sql` among others, of which the query sees the
    rows whose keys the batch has. A key that is null or that nobody has gives no rows, so that a ``LEFT JOIN`` gives
    nulls::

        temporary_list:
          - {name: sensors, table_name: sensors, key: {type: expr, expr: sensor}}

    Example::

        type: sql
        query: SELECT sensor, avg(temperature) AS mean FROM flow GROUP BY sensor
    """

    query: str
    """The query, for example `SELECT * FROM flow WHERE level = 'error'`; or several, with semicolons between them."""
    table_name: str = Field("flow", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The name by which the query calls the batch."""

    temporary_list: list[Enrichment] = []
    """Tables of the stream's `temporary` that the query joins, each with the rows of the keys that the batch has."""

    @model_validator(mode="after")
    def _check(self) -> Sql:
        names = [self.table_name, *(one.table_name for one in self.temporary_list)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two tables are called {twice!r}: give each another `table_name`")
        try:
            _ = self._steps
        except ConfigError as error:
            raise ValueError(error.message) from error
        return self

    @cached_property
    def _steps(self) -> list[_Step]:
        tables = [one.table_name for one in self.temporary_list]
        return [_Step(query, self.table_name, tables) for query in split(self.query)]

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        """Find the temporary tables that it looks rows up in."""
        if not self.temporary_list:
            yield self.process
            return
        lookups = {one.table_name: (one.key, context.lookups[one.name]) for one in self.temporary_list}

        async def process(batch: Batch) -> Sequence[Batch]:
            if not batch.num_rows:
                return []
            tables = {name: await _look_up(batch, key, lookup) for name, (key, lookup) in lookups.items()}
            return await asyncio.to_thread(self._run, batch, tables)

        yield process

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Return the rows of the result."""
        return self._run(batch, {})

    def _run(self, batch: Batch, tables: Mapping[str, Batch]) -> Sequence[Batch]:
        found: Sequence[Batch] = [batch] if batch.num_rows else []
        for step in self._steps:
            whole = _joined(found)
            if whole is None:
                return []
            found = step.run(whole, tables)
        return found

    def looks_up(self) -> Sequence[str]:
        """Return the names of the temporary tables that it joins."""
        return [one.name for one in self.temporary_list]

    def row_wise(self) -> bool:
        """Tell whether the queries only project and filter."""
        return all(step.query.row_wise() for step in self._steps)

    def columns_read(self) -> frozenset[str] | None:
        """Return the names that the first query and the keys mention, unless it selects all columns."""
        read = self._steps[0].query.columns_read()
        for one in self.temporary_list:
            keys = one.key.columns_read()
            read = None if read is None or keys is None else read | keys
        return read

    def reads_metadata(self) -> bool:
        """Tell whether a query names a ``__meta_*`` column."""
        return PREFIX in self.query.lower()


class _Step:
    """One of the queries; what only projects and filters keeps the metadata columns beside what it selects."""

    def __init__(self, sql: str, table: str, others: Sequence[str]) -> None:
        self._joining = JoinedQuery(sql, table, others) if others else None
        self.query = self._joining.unjoined if self._joining is not None else PreparedQuery(sql, table)
        self._selecting: dict[tuple[str, ...], PreparedQuery] = {}

    def run(self, batch: Batch, tables: Mapping[str, Batch]) -> Sequence[Batch]:
        if self._joining is not None:
            return self._joining.run(batch, tables)
        metadata = tuple(name for name in batch.schema.names if name.startswith(PREFIX) and name != ABSENT)
        if not metadata or not self.query.row_wise():
            return self.query.run(batch)
        if metadata not in self._selecting:
            self._selecting[metadata] = self.query.selecting(metadata)
        return self._selecting[metadata].run(batch)

    def __deepcopy__(self, memo: object) -> _Step:
        return self


async def _look_up(batch: Batch, key: Expr, lookup: Lookup) -> Batch:
    """Return the rows of all keys of a batch that are not null, each key asked for once."""
    keys = (await asyncio.to_thread(key.evaluate, batch)).unique().drop_null()
    return (await lookup.find(keys)).rows


def _joined(batches: Sequence[Batch]) -> Batch | None:
    """Return the rows of all batches, which have the same columns, as one; None if there are none."""
    if len(batches) < 2:
        return batches[0] if batches else None
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
