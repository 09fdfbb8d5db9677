"""Join the rows of several inputs that are in one window."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

import pyarrow as pa
from pydantic import Field, model_validator

from ..component import Codec
from ..delivery import Batch, Delivery, merge
from ..errors import ConfigError, PermanentError
from ..metadata import VALUE, without_metadata
from ..options import Options
from ..sql.joined import JoinedQuery
from ..sql.statement import Statement, unquoted, words
from ._merging import concatenated

SOURCE = "__meta_source"
_AFTER_TABLES = words("where group having order limit offset union intersect except on using window")
_NOT_INNER = words("left right full cross outer semi anti natural")


class JoinOptions(Options):
    """A query over the rows of a window, which sees those of each input as a table of its own."""

    query: str
    """The query; its tables are the names of the inputs of `multiple_inputs`, all of which it reads."""
    codec: Codec | None = None
    """How payloads become rows, where inputs have no codec of their own."""
    value_field: str = VALUE
    """The column with the payloads."""
    thread_num: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """How many batches are decoded at once."""
    missing: Literal["outer", "route"] = "outer"
    """What becomes of a window in which an input has no rows and nothing joins: `outer` joins it anew with its inner
    joins made full ones, so that what is missing is null; `route` sends its rows to the error output."""

    @model_validator(mode="after")
    def _can_be_planned(self) -> JoinOptions:
        try:
            first, *others = self.tables
            JoinedQuery(self.query, first, others)
            JoinedQuery(self.outer, first, others)
        except ConfigError as error:
            raise ValueError(f"`query`: {error.message}") from error
        except ValueError as error:
            raise ValueError("`query` reads no table: expected names of inputs behind FROM and JOIN") from error
        return self

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """The tables that the query reads, in the order in which it names them."""
        tokens = Statement(self.query).tokens
        found: dict[str, None] = {}
        is_list = False
        for before, token, after in zip((None, *tokens), tokens, (*tokens[1:], None), strict=False):
            if token.text in _AFTER_TABLES or token.text in ("select", "("):
                is_list = False
            is_name = token.kind in ("word", "quoted") and before is not None and (after is None or after.text != "(")
            begins = before is not None and before.text in ("from", "join")
            if is_name and (begins or (is_list and before is not None and before.text == ",")):
                found[unquoted(token.text)] = None
                is_list = True
        return tuple(name for name in found if name not in self._own_names)

    @cached_property
    def _own_names(self) -> frozenset[str]:
        """The names that the query itself gives to queries, by WITH."""
        tokens = Statement(self.query).tokens
        triples = zip(tokens, tokens[1:], tokens[2:], strict=False)
        return frozenset(unquoted(a.text) for a, b, c in triples if b.text == "as" and c.text == "(")

    @cached_property
    def outer(self) -> str:
        """The query with its inner joins made full ones."""
        statement = Statement(self.query)
        sql = statement.sql
        for before, token in reversed(list(zip(statement.tokens, statement.tokens[1:], strict=False))):
            if token.kind != "word" or token.text != "join" or before.text in _NOT_INNER:
                continue
            start = before.start if before.text == "inner" else token.start
            sql = f"{sql[:start]}full join{sql[token.end :]}"
        return sql


class Join:
    """Makes one result of the deliveries of a window."""

    def __init__(self, options: JoinOptions) -> None:
        self._options = options
        self._decode = options.codec.decode if options.codec is not None else None
        self._tables = options.tables
        self._schemas: dict[str, pa.Schema] = {}
        self._queries: dict[tuple[str, str], JoinedQuery] = {}

    async def __call__(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Return the result, which settles all deliveries, and behind it what is refused, with the reason."""
        at_once = asyncio.Semaphore(self._options.thread_num)

        async def read(batch: Batch) -> _Read:
            async with at_once:
                return await asyncio.to_thread(self._read, batch)

        read_ = await asyncio.gather(*(read(delivery.batch) for delivery in deliveries))
        refused = [pair for one in read_ for pair in one.refused]
        try:
            found = await asyncio.to_thread(self._join, [one.rows for one in read_])
        except PermanentError as error:
            return [Delivery(delivery.batch, delivery.loans, error=error) for delivery in deliveries]
        parts = merge(found, deliveries).split([found, *(batch for batch, _ in refused)])
        for part, (_, reason) in zip(parts[1:], refused, strict=True):
            part.error = PermanentError(reason)
        return parts

    def _read(self, batch: Batch) -> _Read:
        """Return the rows of a batch by the input that they came from, decoded."""
        found = _Read()
        sources = batch.column(SOURCE) if SOURCE in batch.schema.names else pa.nulls(batch.num_rows, pa.string())
        for name in sources.unique().to_pylist():
            rows = batch.filter(pa.compute.equal(sources, name)) if len(sources.unique()) > 1 else batch
            if name not in self._options.tables:
                found.refused.append((rows, f"join: no table of the query is called {name!r}, as their input is"))
            elif self._decode is None or self._options.value_field not in rows.schema.names:
                found.rows.setdefault(name, []).append(without_metadata(rows))
            else:
                self._decode_into(found, name, rows)
        return found

    def _decode_into(self, found: _Read, name: str, rows: Batch) -> None:
        """Decode payloads, fewer and fewer at once where one cannot be read, until that stands alone."""
        assert self._decode is not None
        try:
            payloads = rows.column(self._options.value_field).cast(pa.binary())
            found.rows.setdefault(name, []).append(self._decode(payloads.drop_null()))
        except (PermanentError, pa.ArrowException, ValueError) as error:
            if rows.num_rows == 1:
                found.refused.append((rows, f"join: {error}"))
                return
            half = rows.num_rows // 2
            self._decode_into(found, name, rows.slice(0, half))
            self._decode_into(found, name, rows.slice(half))

    def _join(self, read: Sequence[Mapping[str, list[Batch]]]) -> Batch:
        tables = {
            name: self._table(name, [batch for one in read for batch in one.get(name, [])]) for name in self._tables
        }
        missing = [name for name, table in tables.items() if not table.num_rows]
        if len(missing) == len(tables):
            return pa.record_batch({})
        if missing and self._options.missing == "route":
            raise PermanentError(f"join: no rows of {', '.join(missing)} are in this window")
        found = self._run(self._options.query, tables)
        if missing and not found:
            found = self._run(self._options.outer, tables)
        batches = [batch for batch, _ in concatenated(found)] if found else [pa.record_batch({})]
        if len(batches) > 1:
            raise PermanentError("join: the rows of the result have different columns")
        return batches[0]

    def _table(self, name: str, batches: list[Batch]) -> Batch:
        """Return the rows of an input; without any, none with the columns that it had before."""
        batches = [batch for batch in batches if batch.num_rows]
        if not batches:
            return pa.RecordBatch.from_pylist([], self._schemas.get(name, pa.schema([])))
        whole = concatenated(batches)
        if len(whole) > 1:
            raise PermanentError(f"join: rows of {name} have columns whose types do not fit together")
        self._schemas[name] = whole[0][0].schema
        return whole[0][0]

    def _run(self, sql: str, tables: Mapping[str, Batch]) -> list[Batch]:
        first = next(name for name, table in tables.items() if table.num_rows)
        others = {name: table for name, table in tables.items() if name != first}
        if (sql, first) not in self._queries:
            self._queries[sql, first] = JoinedQuery(sql, first, list(others))
        return self._queries[sql, first].run(tables[first], others)


class _Read:
    """The rows of a batch by input, and those that cannot be read."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Batch]] = {}
        self.refused: list[tuple[Batch, str]] = []
