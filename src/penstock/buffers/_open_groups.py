"""The groups of open windows, with what is kept of each: they grow as rows come, give results, and are forgotten."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from ..context import Context
from ..delivery import Batch
from ..errors import PermanentError
from ._aggregate_query import END as WINDOW_END
from ._aggregate_query import START as WINDOW_START
from ._aggregation import Aggregation
from ._event_time import Micros
from ._kept import Kept
from ._merging import unified
from ._sorting import BOUND, Windowing
from ._spans import END, START, Spans

Result: TypeAlias = "tuple[Batch, str | None]"
"""Rows of the result, or what is kept of a window and why the result cannot be computed."""
MAX_PENDING = 1 << 18
"""How many rows come at most before they are in the state."""


class OpenGroups:
    """What is kept of the rows of windows that take rows, by key and span of time; also in keyed state.

    Not for several threads at once.
    """

    def __init__(
        self, windowing: Windowing, aggregation: Aggregation, spans: Spans, kept: Kept, context: Context
    ) -> None:
        """Take up what the state says is open."""
        self._windowing, self._aggregation, self._spans = windowing, aggregation, spans
        self._kept, self._context = kept, context
        self._keys = list(aggregation.keys)
        self._groups = [*self._keys, START, END]
        self._live: pa.Table | None = None
        self._changes: list[pa.Table] = []
        """What came since and is in the state, but not yet part of what is open."""
        self._pending: list[pa.Table] = []
        self.pending_rows = 0
        """How many rows came that are not in the state."""
        self._rows = 0
        """How many rows ever came."""
        self._schema: pa.Schema | None = None
        """What is known of the columns."""
        self._types: tuple[pa.Schema, Sequence[pa.DataType]] | None = None
        """Of the functions, for the columns for which they were last found."""
        self.next_end: int | None = None
        """When the next window ends that has not fired, or earlier."""
        self._fired: int | None = None
        """The end up to which all windows have fired."""
        self.watermark = self._load()
        """The watermark that was saved last."""

    def __len__(self) -> int:
        return self._live.num_rows if self._live is not None else 0

    @property
    def held_rows(self) -> int:
        """How many groups there are to be worked on, each as often as it has parts."""
        return self.pending_rows + sum(len(table) for table in (self._live, *self._changes) if table is not None)

    # -- growing ---------------------------------------------------------------------------------------------------

    def begin(self, batch: Batch, times: Micros) -> tuple[pa.Table | None, pa.Schema]:
        """Return what is kept of rows on time, and what is known of the columns then; changes nothing.

        Raises PermanentError if the rows do not fit those of open windows.
        """
        names = self._aggregation.columns
        columns = [batch.column(name) if name in batch.schema.names else pa.nulls(batch.num_rows) for name in names]
        batch = pa.record_batch([*columns, pa.array(times)], names=[*names, "@time"])
        known = self._schema
        schema = batch.schema if known is None else unified(known, batch.schema)
        if schema is None:
            raise PermanentError(f"columns are of other types than in open windows: {batch.schema} instead of {known}")
        self._find_types(schema)
        if schema != batch.schema:
            batch = batch.cast(schema)
        batch = self._aggregation.select(batch)
        if not batch.num_rows:
            return None, schema
        keys = [_plain(batch.column(name)) for name in self._keys]
        starts, ends = self._spans.place(batch.column("@time").to_numpy(), keys)
        groups = pa.table([*keys, pa.array(starts), pa.array(ends)], names=self._groups)
        return self._aggregation.begin(batch, groups, self._rows), schema

    def add(self, rows: int, kept: pa.Table | None, schema: pa.Schema | None) -> None:
        """Take in what `begin` returned of a delivery of so many rows."""
        self._rows += rows
        self._schema = schema or self._schema
        if kept is not None:
            self._pending.append(kept)
            self.pending_rows += rows
            end = self._spans.next_end(kept, None)
            if end is not None:
                self.next_end = end if self.next_end is None else min(end, self.next_end)

    def is_due(self, watermark: int | None) -> bool:
        """Tell whether a window may be over that has not fired."""
        return self.next_end is not None and watermark is not None and self.next_end <= watermark

    # -- firing ----------------------------------------------------------------------------------------------------

    def advance(self, watermark: int | None, closed: int | None, *, early: bool, flush: bool) -> list[Result]:
        """Put what came into the state, fire what is due, and forget what has closed; return the results.

        ``early`` gives those of open windows so far, ``flush`` those of all, which are no longer open then.
        """
        change = self._combine(self._pending)
        self._pending, self.pending_rows = [], 0
        if change is not None:
            self._changes.append(change)
        self._merge(must=early or flush or self.is_due(watermark))
        found = self._fire(change, watermark, closed)
        if early or flush:
            found += self._results(self._fired, None)
        note = {
            "watermark": watermark,
            "fired": self._fired,
            "closed": closed,
            "rows": self._rows,
            "schema": base64.b64encode(self._schema.serialize()).decode() if self._schema is not None else None,
        }
        if flush:
            self._live, self.next_end = None, None
        self._drop(closed)
        self._context.states.begin()
        self._kept.add(change, note)
        if not self._changes:
            self._kept.rewrite(self._live, note)
        return [(batch, reason) for batch, reason in found if batch.num_rows]

    def _merge(self, *, must: bool) -> None:
        """Make changes part of what is open: where that is asked for, or they are as many as it."""
        rows = sum(change.num_rows for change in self._changes)
        if rows and (must or rows >= max(MAX_PENDING, self._live.num_rows if self._live is not None else 0)):
            tables = self._changes if self._live is None else [self._live, *self._changes]
            self._changes, self._live = [], None  # so that no memory is held twice
            self._live = self._combine(tables)

    def _combine(self, tables: Sequence[pa.Table]) -> pa.Table | None:
        if not tables:
            return None
        if len(tables) == 1:
            return tables[0]
        whole = self._spans.join(_concatenated(tables), self._keys)
        return self._aggregation.combine(whole, self._groups)

    def _fire(self, change: pa.Table | None, watermark: int | None, closed: int | None) -> list[Result]:
        if watermark is None:
            return []
        if not self.is_due(watermark):
            self._fired = watermark if self._fired is None else max(self._fired, watermark)
            return []
        found = self._results(self._fired, watermark)
        if self._windowing.late == "update" and change is not None and self._fired is not None:
            found = self._updates(change, self._fired, closed) + found
        self._fired = watermark if self._fired is None else max(self._fired, watermark)
        self.next_end = self._spans.next_end(self._live, self._fired) if self._live is not None else None
        return found

    def _updates(self, change: pa.Table, fired: int, closed: int | None) -> list[Result]:
        """Return anew the windows that have fired and into which rows came."""
        assert self._live is not None
        found = []
        touched = set(np.unique(change.column(START).to_numpy()).tolist())
        for begin, end, rows in self._spans.windows(self._live, closed, fired):
            if touched.intersection(np.unique(rows.column(START).to_numpy()).tolist()):
                found += self._result(begin, end, rows)
        return found

    def _results(self, after: int | None, until: int | None) -> list[Result]:
        if self._live is None:
            return []
        windows = self._spans.windows(self._live, after, until)
        return [result for window in windows for result in self._result(*window)]

    def _result(self, begin: int, end: int, rows: pa.Table) -> list[Result]:
        """Return the result of one window, or of sessions that have their own bounds."""
        assert self._schema is not None
        if not self._spans.is_whole:
            rows = self._aggregation.combine(rows.drop_columns([START, END]), self._keys)
        if self._spans.is_even:
            bounds = [pa.repeat(pa.scalar(bound, BOUND), rows.num_rows) for bound in (begin, end)]
        else:
            bounds = [rows.column(name).cast(BOUND) for name in (START, END)]
        rows = rows.append_column(WINDOW_START, bounds[0]).append_column(WINDOW_END, bounds[1])
        try:
            return [(batch, None) for batch in self._aggregation.finish(rows, self._find_types(self._schema))]
        except PermanentError as error:
            return [(batch, str(error)) for batch in rows.combine_chunks().to_batches()]

    def _find_types(self, schema: pa.Schema) -> Sequence[pa.DataType]:
        """Return the types of the functions over columns; raises PermanentError if the query cannot be computed."""
        if self._types is None or not schema.equals(self._types[0]):
            self._types = schema, self._aggregation.types(_null_row(schema))
        return self._types[1]

    def _drop(self, closed: int | None) -> None:
        """Forget what no window needs any more."""
        if self._live is None or closed is None:
            return
        over = self._live.column(END).to_numpy() <= closed
        if over.any():
            self._live = self._live.filter(pa.array(~over)) if not over.all() else None

    def _load(self) -> int | None:
        """Take up what the state says is open; returns the watermark."""
        note: dict[str, Any] = {}
        for table, noted in self._kept.load():
            if table is not None:
                self._live = self._combine([one for one in (self._live, table) if one is not None])
            note = noted or note
            self._drop(note.get("closed"))
        if (schema := note.get("schema")) is not None:
            self._schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema)))
        self._fired, self._rows = note.get("fired"), note.get("rows", 0)
        if self._live is not None:
            self.next_end = self._spans.next_end(self._live, self._fired)
        watermark: int | None = note.get("watermark")
        return watermark

    def last_end(self) -> int | None:
        """Return the end of the last window that is open."""
        tables = [table for table in (self._live, *self._changes, *self._pending) if table is not None]
        return max((int(table.column(END).to_numpy().max()) for table in tables), default=None)


def _plain(column: pa.Array) -> pa.Array:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all tables; numbers of different types become those that hold both."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException:
        names = tables[-1].column_names
        kinds = [_common([table.schema.field(name).type for table in tables]) for name in names]
        schema = pa.schema(list(zip(names, kinds, strict=True)))
        return pa.concat_tables([table.select(names).cast(schema) for table in tables])


def _common(kinds: Sequence[pa.DataType]) -> pa.DataType:
    return next((kind for kind in kinds if pa.types.is_floating(kind)), kinds[-1])


def _null_row(schema: pa.Schema) -> Batch:
    return pa.record_batch([pa.nulls(1, kind) for kind in schema.types], names=schema.names)
