"""Arrow IPC streams and files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pydantic import Field

from ..component import Codec
from ..delivery import Batch
from ..errors import PermanentError

_FILE_MAGIC = b"ARROW1"


class Arrow(Codec, type="arrow"):
    """Arrow IPC streams and files.

    A payload is a whole stream or file, told apart by how it begins, and may hold any number of rows. Payloads with
    different columns become one batch that has all of them. Written, a whole batch is ONE payload, a stream.

    Example::

        type: arrow
        compression: zstd
    """

    compression: str | None = Field(default=None, pattern="^(zstd|lz4)$")
    """Compress what is written: `zstd` or `lz4`."""

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        """Return the rows of all payloads; raises PermanentError if one is damaged or cut off."""
        return unite([self._read(payload.as_buffer()) for payload in payloads])

    def encode(self, batch: Batch) -> pa.BinaryArray:
        """Return one payload for all rows; none for none."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=self.compression)) as ipc:
            ipc.write_batch(batch)
        return single(sink.getvalue(), batch)

    def _read(self, payload: pa.Buffer) -> pa.Table:
        try:
            if payload[: len(_FILE_MAGIC)].to_pybytes() == _FILE_MAGIC:
                table = pa.ipc.open_file(payload).read_all()
            else:
                table = _read_stream(payload)
            table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise PermanentError(
                f"the payload is no Arrow stream or file, or is cut off: {str(error)[:120]}"
            ) from error
        return table


def _read_stream(payload: pa.Buffer) -> pa.Table:
    source = pa.BufferReader(payload)
    table = pa.ipc.open_stream(source).read_all()
    if payload.size - source.tell() or payload[-8:].to_pybytes() != b"\xff\xff\xff\xff\0\0\0\0":
        raise ValueError("expected the stream to end in its end mark")
    return table


def unite(tables: Sequence[pa.Table]) -> Batch:
    """Concatenate tables to one batch with the columns of all; raises PermanentError if their types conflict."""
    if not tables:
        return pa.RecordBatch.from_arrays([], names=[])
    try:
        table = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    except (pa.ArrowException, ValueError) as error:
        raise PermanentError(f"the payloads do not fit together: {str(error)[:240]}") from error
    arrays = [column.chunk(0) if column.num_chunks else pa.nulls(0, column.type) for column in table.columns]
    if not arrays:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * table.num_rows, pa.struct([])))
    return pa.RecordBatch.from_arrays(arrays, schema=table.schema.remove_metadata())


def single(payload: pa.Buffer, batch: Batch) -> pa.BinaryArray:
    """Return the payload of a batch, none if it has no rows; raises PermanentError if it is too long."""
    if not batch.num_rows:
        return pa.array([], pa.binary())
    if payload.size >= 2**31:
        raise PermanentError(f"the batch takes {payload.size} bytes: expected less than 2 GiB in one payload")
    offsets = pa.py_buffer(np.array([0, payload.size], np.int32))
    return pa.BinaryArray.from_buffers(pa.binary(), 1, [None, offsets, payload])
