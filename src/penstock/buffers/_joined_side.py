"""The rows that are held of one input of a join, and how they are kept across restarts."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pyarrow as pa

from ..delivery import Batch
from ..errors import PermanentError
from ._event_time import Mask, Micros
from ._kept import Kept
from ._merging import unified
from ._pairing import Indices

TIME, NUMBER, MATCHED = "@time", "@number", "@matched"
"""Columns of held rows: the time in µs, the number in the order of arrival, and whether a row matched it."""
_OWN = [pa.field(TIME, pa.int64()), pa.field(NUMBER, pa.int64()), pa.field(MATCHED, pa.bool_())]


class JoinedSide:
    """The rows that are held of one input, in the order in which they came."""

    def __init__(self, name: str, kept: Kept) -> None:
        self.name, self._kept = name, kept
        self.schema = pa.schema([])
        """The columns that its rows were seen to have."""
        self.rows = pa.schema(_OWN).empty_table()
        self.new_from = 0
        """Where the rows begin that came since they were last saved."""
        self.gone: int | None = None
        """The time before which no row is held any more."""
        self._pending: list[pa.Table] = []
        self.note: dict[str, Any] = {}
        self._load()

    def _load(self) -> None:
        tables = []
        for table, noted in self._kept.load():
            tables += [table] if table is not None else []
            self.note = noted or self.note
        self.gone = self.note.get("gone")
        if (schema := self.note.get("schema")) is not None:
            self.schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema)))
        if tables:
            self._pending = tables
            self.take_pending()
            self.drop_before(self.gone)
        self.new_from = self.rows.num_rows

    @property
    def times(self) -> Micros:
        """The time of each row."""
        times: Micros = self.rows.column(TIME).to_numpy()
        return times

    @property
    def numbers(self) -> Indices:
        """The number of each row in the order of arrival."""
        numbers: Indices = self.rows.column(NUMBER).to_numpy()
        return numbers

    @property
    def matched(self) -> Mask:
        """Whether each row was matched."""
        matched: Mask = self.rows.column(MATCHED).to_numpy().copy()
        return matched

    def add(self, batch: Batch, times: Micros, first: int) -> None:
        """Take rows, numbered from ``first`` on; raises PermanentError if their columns are of other types."""
        batch = _without_dictionaries(batch)
        schema = unified(self.schema, batch.schema.remove_metadata())
        if schema is None:
            raise PermanentError(
                f"columns of {self.name} are of other types than before: {batch.schema} instead of {self.schema}"
            )
        self.schema = schema
        rows = pa.Table.from_batches([batch.replace_schema_metadata(None)])
        own = (times, np.arange(first, first + batch.num_rows), np.zeros(batch.num_rows, np.bool_))
        for field, values in zip(_OWN, own, strict=True):
            rows = rows.append_column(field, pa.array(values, field.type))
        self._pending.append(rows)

    def take_pending(self) -> None:
        """Hold the rows that came as one table with the others."""
        if self._pending:
            tables = [self.rows, *self._pending] if self.rows.num_rows else self._pending
            self._pending = []
            self.rows = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
        if missing := [field for field in self.schema if field.name not in self.rows.column_names]:
            for field in missing:
                self.rows = self.rows.append_column(field, pa.nulls(self.rows.num_rows, field.type))

    def mark(self, matched: Mask) -> None:
        """Note which rows were matched."""
        at = self.rows.schema.get_field_index(MATCHED)
        self.rows = self.rows.set_column(at, _OWN[2], pa.array(matched))

    def keep(self, mask: Mask) -> None:
        """Hold only the rows that ``mask`` says."""
        self.new_from = int(mask[: self.new_from].sum())
        self.rows = self.rows.filter(pa.array(mask)).combine_chunks()

    def drop_before(self, time: int | None) -> pa.Table | None:
        """Let go of the rows before a time, and return them; None if there are none."""
        if time is None:
            return None
        self.gone = time if self.gone is None else max(time, self.gone)
        over = self.times < self.gone
        if not over.any():
            return None
        gone = self.rows.filter(pa.array(over))
        self.keep(~over)
        return gone

    def plain(self, rows: pa.Table) -> pa.Table:
        """Return rows as they came."""
        return rows.drop_columns([TIME, NUMBER, MATCHED])

    def save(self, **note: Any) -> None:
        """Put what came since into the state, and what was noted."""
        schema = base64.b64encode(self.schema.serialize()).decode()
        self.note = {**note, "gone": self.gone, "schema": schema}
        self._kept.add(self.rows.slice(self.new_from), self.note)
        self.new_from = self.rows.num_rows
        self._kept.rewrite(self.rows, self.note)


def _without_dictionaries(batch: Batch) -> Batch:
    for at, field in enumerate(batch.schema):
        if pa.types.is_dictionary(field.type):
            batch = batch.set_column(at, field.name, batch.column(at).cast(field.type.value_type))
    return batch
