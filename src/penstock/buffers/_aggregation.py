"""Aggregate queries whose result can be computed from partial results, so that no row need be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..delivery import Batch
from ..errors import ConfigError, PermanentError
from ..sql.query import PreparedQuery
from ..sql.statement import Statement
from ._aggregate_query import BOUNDS, PARTS, Call, QueryText, read_plan
from ._sketches import SKETCHES, count_distinct, find_quantiles

_COMBINED_BY = {"count": "sum", "sum": "sum", "min": "min", "max": "max"}
_WIDE = pa.decimal128(38, 0)
"""Sums of integers are kept so wide that they never overflow; the result has the type of the query, or is refused."""
RESULT_ROWS = 65_536
"""Groups whose result is computed at once, so that it takes little memory; an ordered result is computed whole."""
_SUM = pc.ScalarAggregateOptions(min_count=1)


class Part(NamedTuple):
    """What is kept of a column."""

    kind: str
    column: str | None

    @property
    def name(self) -> str:
        """The column that it is kept in."""
        return f"{self.kind}:{self.column or '*'}"

    @property
    def is_ordered(self) -> bool:
        """Whether it depends on the order in which rows came."""
        return self.kind in ("first", "last")

    @property
    def number(self) -> str:
        """The column with the number of the row that it is of, where that matters."""
        return f"@number of {self.name}"

    @property
    def rank(self) -> str:
        """The column with the place of that row among others."""
        return f"@rank of {self.name}"


@dataclass(frozen=True)
class Aggregation:
    """An aggregate query in parts: what is kept of rows, by what they are grouped, and what makes the result of it."""

    sql: str
    keys: tuple[str, ...]
    """The columns by which rows are grouped, beside the window."""
    calls: tuple[Call, ...]
    columns: tuple[str, ...]
    """The columns of rows that it reads."""
    condition: str | None
    final: str
    """The query over what the groups became, one row each."""
    names: tuple[str, ...]
    """The names of the columns of the result."""

    @classmethod
    def of(cls, sql: str) -> Aggregation:
        """Take an aggregate query apart; raises ConfigError with the reason why it cannot be computed in parts."""
        planned = PreparedQuery(sql).plan_made_up()
        if planned is None:
            raise ConfigError("it cannot be planned before the types of the columns are known")
        keys, calls = read_plan(planned.plan)
        text = QueryText(sql)
        if set(text.found) != set(calls):
            raise ConfigError("its functions cannot be told from its text")
        own = tuple(key for key in keys if key not in BOUNDS)
        parts = {f"{kind}:" for kinds in PARTS.values() for kind in kinds}
        if odd := next((key for key in own if key.startswith(("@", *parts))), None):
            raise ConfigError(f"a column cannot be called {odd!r} here")
        calls = list(dict.fromkeys(calls))
        columns = tuple(name for name in planned.columns if name not in BOUNDS)
        bounds = [name for name in BOUNDS if name not in planned.names]
        final = text.final(calls, set(planned.names))
        return cls(sql, own, tuple(calls), columns, text.condition, final, (*planned.names, *bounds))

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """What is kept of each group."""
        found = [Part(kind, call.column) for call in self.calls for kind in PARTS[call.function]]
        return tuple(dict.fromkeys(found))

    @cached_property
    def _filter(self) -> PreparedQuery | None:
        if self.condition is None:
            return None
        return PreparedQuery("SELECT * FROM flow WHERE " + self.condition)  # noqa: S608 - of the user's own query

    @cached_property
    def _result(self) -> PreparedQuery:
        return PreparedQuery(self.final)

    @cached_property
    def _is_ordered(self) -> bool:
        return "order" in Statement(self.sql).words

    @cached_property
    def _types(self) -> PreparedQuery:
        called = ", ".join(f'{call.write()} AS "{at}"' for at, call in enumerate(self.calls))
        return PreparedQuery("SELECT " + (called or "count(*)") + " FROM flow")  # noqa: S608 - names are quoted

    def select(self, batch: Batch) -> Batch:
        """Return the rows that meet its condition."""
        if self._filter is None or not batch.num_rows:
            return batch
        found = self._filter.run(batch)
        return found[0] if len(found) == 1 else pa.concat_batches(found) if found else batch.slice(0, 0)

    def types(self, batch: Batch) -> tuple[pa.DataType, ...]:
        """Return the types of its functions over the columns of a batch; raises PermanentError if it cannot run."""
        (found,) = self._types.run(batch.slice(0, 1))
        return tuple(found.schema.types)[: len(self.calls)]

    def begin(self, batch: Batch, groups: pa.Table, first: int) -> pa.Table:
        """Return what is kept of the rows of a batch by ``groups``, which has the columns that tell them apart.

        The rows are numbered from ``first`` on, in the order in which they came.
        """
        columns: dict[str, Any] = {name: groups.column(name) for name in groups.column_names}
        for part in self.parts:
            if part.column is None:
                continue
            column = batch.column(part.column)
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            if part.kind in SKETCHES:
                column = SKETCHES[part.kind].prepare(column)
            columns[part.name] = _summable(column) if part.kind == "sum" else column
            if part.is_ordered:
                columns[part.number] = np.arange(first, first + batch.num_rows)
        return self._group(pa.table(columns), groups.column_names, is_begun=False)

    def combine(self, kept: pa.Table, groups: Sequence[str]) -> pa.Table:
        """Return what is kept, with the rows of each group made one."""
        return self._group(kept, groups, is_begun=True)

    def _group(self, rows: pa.Table, groups: Sequence[str], *, is_begun: bool) -> pa.Table:
        """Make one row of each group; raises PermanentError if the types of the columns cannot be grouped so."""
        asked: list[Any] = []
        orders = {}
        for part in self.parts:
            how = _COMBINED_BY.get(part.kind, part.kind) if is_begun else part.kind
            if part.is_ordered:
                order = np.argsort(rows.column(part.number).to_numpy(), kind="stable")
                rank = np.empty_like(order)
                rank[order] = np.arange(len(order))
                orders[part] = order
                rows = rows.append_column(part.rank, pa.array(rank))
                asked.append((part.rank, "min" if part.kind == "first" else "max"))
            elif part.kind in SKETCHES:
                asked.append((part.name, "list" if is_begun else SKETCHES[part.kind].aggregate))
            elif how == "count" and part.column is None:
                asked.append(([], "count_all"))
            else:
                asked.append((part.name, how, _SUM) if how == "sum" else (part.name, how))
        try:
            found = rows.group_by(list(groups), use_threads=False).aggregate(asked)
        except pa.ArrowException as error:
            raise PermanentError(f"the rows cannot be grouped: {error}") from error
        columns = {name: found.column(name) for name in groups}
        own = [column for name, column in zip(found.column_names, found.columns, strict=True) if name not in groups]
        for part, column in zip(self.parts, own, strict=True):
            if part in orders:
                chosen = pa.array(orders[part][column.to_numpy()])
                columns[part.name] = rows.column(part.name).take(chosen)
                columns[part.number] = rows.column(part.number).take(chosen)
            elif part.kind in SKETCHES:
                sketch = SKETCHES[part.kind]
                columns[part.name] = sketch.merge(column) if is_begun else sketch.begin(column)
            elif part.kind == "sum" and pa.types.is_integer(column.type):
                columns[part.name] = column.cast(_WIDE)
            else:
                columns[part.name] = column
        return pa.table(columns)

    def finish(self, kept: pa.Table, types: Sequence[pa.DataType]) -> list[Batch]:
        """Return the result for groups of one row each, which have the columns ``window_start`` and ``window_end``.

        Raises PermanentError if a result does not fit its type.
        """
        if kept.num_rows > RESULT_ROWS and not self._is_ordered:
            starts = range(0, kept.num_rows, RESULT_ROWS)
            return [batch for start in starts for batch in self.finish(kept.slice(start, RESULT_ROWS), types)]
        if not kept.num_rows:
            return []
        columns = {name: kept.column(name) for name in (*self.keys, *BOUNDS)}
        for at, (call, kind) in enumerate(zip(self.calls, types, strict=True)):
            columns[f"__{at}"] = _value(kept, call, kind)
        found = self._result.run(pa.table(columns).combine_chunks().to_batches()[0])
        return [batch.rename_columns(list(self.names)) for batch in found]


def _summable(column: pa.Array) -> pa.Array:
    """Return integers as they are if their sum surely fits 64 bits, else as wide numbers."""
    if not pa.types.is_integer(column.type):
        return column
    low, high = (one.as_py() or 0 for one in pc.min_max(column).values())
    fits = max(-low, high) * len(column) < 1 << 63
    return column.cast(pa.int64() if fits else _WIDE)


def _value(kept: pa.Table, call: Call, kind: pa.DataType) -> Any:
    try:
        if call.function == "avg":
            total, count = kept.column(f"sum:{call.column}"), kept.column(f"count:{call.column}")
            if pa.types.is_decimal(kind):
                return pc.divide(total.cast(pa.decimal256(60, kind.scale)), count.cast(pa.decimal256(15, 0))).cast(kind)
            return pc.divide(total.cast(pa.float64()), count.cast(pa.float64())).cast(kind)
        (part,) = PARTS[call.function]
        if part in SKETCHES:
            sketches = kept.column(Part(part, call.column).name).to_pylist()
            share = 0.5 if call.share is None else call.share
            found = count_distinct(sketches) if part == "distinct" else find_quantiles(sketches, share)
            return pa.array(found, kind)
        return kept.column(Part(part, call.column).name).cast(kind)
    except pa.ArrowException as error:
        raise PermanentError(f"{call.function}({call.column}) is out of range: {error}") from error
