"""Keep batches in a list of this process: for tests and for applications in the same process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pyarrow as pa

from ..component import Output, Writer
from ..context import Context
from ..delivery import Batch, Position
from ..metadata import VALUE, without_metadata

kept: dict[str, list[Batch]] = {}
"""What was written, by key."""
positions: dict[str, dict[str, Position]] = {}
"""The positions saved with it, by key."""


def rows(key: str = "default") -> list[dict[str, Any]]:
    """Return everything written under ``key``, one mapping a row; times are cut to microseconds."""
    return [row for batch in kept.get(key, []) for row in _readable(batch).to_pylist()]


def clear(key: str = "default") -> None:
    """Forget what was written under ``key``, positions included. An open writer goes on with an empty list."""
    kept.setdefault(key, []).clear()
    positions.setdefault(key, {}).clear()


def _readable(batch: Batch) -> Batch:
    """Python's own times end at microseconds."""
    for index, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            times = batch.column(index).cast(pa.timestamp("us", field.type.tz), safe=False)
            batch = batch.set_column(index, field.name, times)
    return batch


class Memory(Output, type="memory"):
    """Keep batches in a list, where Python code of the same process finds them.

    ``penstock.outputs.memory.kept[key]`` is the list of batches, ``rows(key)`` gives their rows and
    ``clear(key)`` empties it. Opening appends to what is there. The list lives as long as the process and has
    no bound. It takes positions too, so ``checkpoint: output`` works, as long as the process lives.

    Example::

        type: memory
        key: alerts
    """

    key: str = "default"
    """Which list."""
    metadata: bool = False
    """Keep the `__meta_*` columns too."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Find or begin the list."""
        yield _ListWriter(self, kept.setdefault(self.key, []), positions.setdefault(self.key, {}))

    def reads_metadata(self) -> bool:
        """Tell whether the metadata columns are to be made for this output."""
        return self.metadata


class _ListWriter:
    def __init__(self, config: Memory, batches: list[Batch], saved: dict[str, Position]) -> None:
        self._config, self._batches, self._saved = config, batches, saved

    async def write(self, batches: Sequence[Batch]) -> None:
        self._batches += [self._form(batch) for batch in batches]

    async def write_and_save(self, batches: Sequence[Batch], positions: Mapping[str, Position]) -> None:
        await self.write(batches)
        self._saved.update(positions)

    async def load(self, key: str) -> Position | None:
        return self._saved.get(key)

    async def save(self, positions: Mapping[str, Position]) -> None:
        self._saved.update(positions)

    def _form(self, batch: Batch) -> Batch:
        if self._config.codec is not None:
            return pa.RecordBatch.from_arrays([self._config.payloads(batch)], [VALUE])
        return batch if self._config.metadata else without_metadata(batch)
