"""One segment of the write-ahead log: a file of records, the last of which a crash may have torn.

A record is a header (kind, length, CRC-32 of the payload, entry number; little endian) and an Arrow IPC message: a
schema wherever it changes, else a batch; or a whole IPC stream, for a batch with dictionaries.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

from ..delivery import Batch

HEADER = struct.Struct("<B3xIIQ")
SCHEMA, BATCH, STREAM = 1, 2, 3


def record(kind: int, number: int, payload: pa.Buffer) -> list[bytes | pa.Buffer]:
    """The parts of one record, in the order in which they are written."""
    return [HEADER.pack(kind, payload.size, zlib.crc32(payload), number), payload]


def stream_record(number: int, batch: Batch) -> list[bytes | pa.Buffer]:
    """The parts of the record of a batch that cannot be read without what stands beside it: its dictionaries."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return record(STREAM, number, sink.getvalue())


def has_dictionary(kind: pa.DataType) -> bool:
    """Whether values of this type refer to a dictionary."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        return True
    return any(has_dictionary(kind.field(index).type) for index in range(kind.num_fields))


def _records_of(path: Path) -> Iterator[tuple[int, int, bytes, int]]:
    """The intact records of a segment: kind, number, payload, and where the record ends."""
    with path.open("rb") as file:
        end = 0
        while len(header := file.read(HEADER.size)) == HEADER.size:
            kind, length, checksum, number = HEADER.unpack(header)
            if kind not in (SCHEMA, BATCH, STREAM) or length > os.fstat(file.fileno()).st_size - file.tell():
                return
            payload = file.read(length)
            if zlib.crc32(payload) != checksum:
                return
            end += HEADER.size + length
            yield kind, number, payload, end


def entries(path: Path, last: Callable[[], int]) -> Iterator[tuple[int, Batch]]:
    """The entries of a segment up to number ``last()``, behind which it may still be written."""
    schema: pa.Schema | None = None
    for kind, number, payload, _ in _records_of(path):
        if number > last():
            return
        if kind == SCHEMA:
            schema = pa.ipc.read_schema(pa.py_buffer(payload))
        elif kind == STREAM:
            yield number, pa.ipc.open_stream(pa.py_buffer(payload)).read_next_batch()
        else:
            yield number, pa.ipc.read_record_batch(pa.py_buffer(payload), schema)


def repair(path: Path) -> int | None:
    """Cut a segment off behind its last intact batch, keeping what is cut beside it; return that batch's number."""
    number, good = None, 0
    for kind, found, _, end in _records_of(path):
        if kind != SCHEMA:
            number, good = found, end
    size = path.stat().st_size
    if good < size:
        with path.open("r+b") as file:
            file.seek(good)
            with contextlib.suppress(OSError):  # a full disk must not keep the stream from starting
                path.with_suffix(".torn").write_bytes(file.read())
            file.truncate(good)
            os.fsync(file.fileno())
        logging.getLogger("penstock").warning(
            "write-ahead log %s: the last record was torn by a crash and never acked; %d bytes cut off",
            path,
            size - good,
        )
    return number
