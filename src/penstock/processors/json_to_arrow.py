"""Read JSON payloads into columns, keeping everything else the batch holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from ..component import Codec, Process, Processor
from ..context import Context
from ..delivery import Batch, Decoder, learns
from ..framing import offsets
from ..metadata import EXT, VALUE
from ..runtime.decoding import destinations
from ._payloads import replace_payloads, take_payloads


class JsonToArrow(Processor, type="json_to_arrow"):
    """Read JSON payloads into columns, keeping everything else the batch holds.

    Each payload is an object, an array of objects, or lines of them, read as by the codec ``json``: the columns are
    inferred from the whole batch and only ever grow. The column of payloads gives way to the columns read; metadata
    and all other columns are kept, and repeated where a payload holds several objects. A column read replaces one
    of the same name, but never metadata. A payload that is not JSON is refused.

    Example::

        type: json_to_arrow
        fields_to_include: [sensor, temperature]
    """

    value_field: str = VALUE
    """The column of payloads, Binary or text."""
    fields_to_include: list[str] | None = Field(default=None, min_length=1)
    """The only keys to read, spelled as in the payloads; without it all are read."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        """Yield a process that learns the schema as long as it is open."""
        decoder = Codec.find("json")().decoder(self._columns(context.columns))

        def process(batch: Batch) -> Sequence[Batch]:
            if EXT not in batch.schema.names or not learns(decoder):
                return [self._decoded(batch, decoder)]
            return [self._decoded(part, decoder.apart(destination)) for destination, part in destinations(batch)]

        yield process

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Decode one batch by itself."""
        return [self._decoded(batch, Codec.find("json")().decoder(self._columns(None)))]

    def row_wise(self) -> bool:
        """Tell that a batch may be halved to find the bad payload."""
        return True

    def columns_read(self) -> frozenset[str] | None:
        """Return None: what is not decoded is kept."""
        return None

    def _columns(self, read: frozenset[str] | None) -> frozenset[str] | None:
        if self.fields_to_include is None:
            return read
        return frozenset(name.lower() for name in self.fields_to_include)

    def _decoded(self, batch: Batch, decoder: Decoder) -> Batch:
        payloads = take_payloads(batch, self.value_field, "JSON")
        rows = decoder(payloads)
        each = _rows_each(payloads, rows.num_rows, decoder)
        if each is not None:
            batch = batch.take(pa.array(np.repeat(np.arange(len(each)), each)))
        if self.fields_to_include is not None:
            rows = _select(rows, self.fields_to_include)
        return replace_payloads(batch, self.value_field, rows)


def _select(rows: Batch, names: Sequence[str]) -> Batch:
    """The columns named, null where no payload has had them yet."""
    present = rows.schema.names
    arrays = [rows.column(name) if name in present else pa.nulls(rows.num_rows) for name in names]
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


def _rows_each(payloads: pa.BinaryArray, rows: int, decoder: Decoder) -> list[int] | None:
    """How many rows come from each payload; None where it is one from each."""
    if rows == len(payloads) and _are_objects(payloads):
        return None
    objects = pc.equal(pc.binary_slice(payloads, 0, 1), pa.scalar(b"{")).to_numpy(zero_copy_only=False)
    # What starts as an object holds at least one row, so if the others account for all the rest it holds just one.
    counts = objects.astype(int)
    others = np.flatnonzero(~objects)
    counts[others] = [decoder(payloads.slice(int(index), 1)).num_rows for index in others]
    if counts.sum() != rows:
        counts = np.array([decoder(payloads.slice(index, 1)).num_rows for index in range(len(payloads))])
    return None if (counts == 1).all() else counts.tolist()


def _are_objects(payloads: pa.BinaryArray) -> bool:
    """Tell whether every payload surely begins as an object does."""
    starts = offsets(payloads)
    if payloads.null_count or not (starts[1:] > starts[:-1]).all():
        return False
    return bool((np.frombuffer(payloads.buffers()[2], np.uint8)[starts[:-1]] == ord("{")).all())
