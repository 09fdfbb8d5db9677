"""Keep the first row of each key: the smallest processor that remembers across restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pyarrow as pa
from pydantic import Field

from penstock.component import Process, Processor
from penstock.context import Context
from penstock.delivery import Batch
from penstock.errors import PermanentError
from penstock.keyedstate import KeyedState


class Distinct(Processor, type="distinct"):
    """Keep the first row of each value of a column, in this run and all later ones.

    Example::

        type: distinct
        column: id
    """

    column: str
    """The column that tells rows apart."""
    max_keys: int = Field(default=100_000, ge=1)
    """How many values are remembered at most; beyond that the oldest are forgotten."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        """Load what was seen."""
        seen = await context.state(max_entries=self.max_keys)
        yield lambda batch: self._new(batch, seen)

    def _new(self, batch: Batch, seen: KeyedState) -> Sequence[Batch]:
        if self.column not in batch.schema.names:
            raise PermanentError(f"there is no column {self.column!r}")
        keys = [str(value) for value in batch.column(self.column).to_pylist()]
        firsts = {key: row for row, key in reversed([*enumerate(keys)]) if key not in seen}
        seen.put_all(dict.fromkeys(reversed(firsts)))
        return [batch.take(pa.array(sorted(firsts.values()), pa.int64()))] if firsts else []
