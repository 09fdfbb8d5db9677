"""One segment of the write-ahead log: a file of records.

A record is a header (kind, check, length, CRC-32 of the payload, entry number; little endian) and a payload. The first
record says which log the segment is of. A batch is an Arrow IPC message, before which its schema stands wherever that
changes, or a whole IPC stream if it has dictionaries.

The check covers the header, the log and the schema of a batch, so that an intact record is known as such wherever it
stands: behind damage reading goes on at the next one, and nothing is taken for a record of this log that is not.
Segments of earlier versions have no first record and no checks.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.ipc

from ..delivery import Batch
from ..errors import ConfigError

HEADER = struct.Struct("<B3sIIQ")
SCHEMA, BATCH, STREAM, HEAD, GAP = 1, 2, 3, 4, 5
ENTRIES = (BATCH, STREAM, GAP)
"""The kinds of record that have an entry number of their own."""
VERSION = 1
"""The version of the format, which the first record names."""

Parts: TypeAlias = "list[bytes | pa.Buffer]"
Schemas: TypeAlias = dict[int, pa.Schema]


class Head(msgspec.Struct, frozen=True):
    """The first record of a segment."""

    log: str
    """The log that it belongs to; other logs have other names."""
    stream: str
    first: int
    """The number of its first entry."""
    damage: str = ""
    """What was missing from the log when the segment was begun, if nobody had dealt with it."""
    damaged_from: int = 0
    """The number of the first entry that was."""
    version: int = VERSION

    @property
    def seed(self) -> int:
        """Return what the checks of this log begin with."""
        return zlib.crc32(self.log.encode())


class Gap(msgspec.Struct, frozen=True):
    """Stands for entries that are missing: somebody knows, or their numbers were left out."""

    first: int
    is_room: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """An intact record, and where it stands."""

    kind: int
    number: int
    payload: bytes
    start: int
    end: int
    schema: pa.Schema | None = None

    @property
    def first(self) -> int:
        """The first of the entries that it stands for: several if they are known to be missing."""
        return msgspec.json.decode(self.payload, type=Gap).first if self.kind == GAP else self.number

    @property
    def is_room(self) -> bool:
        """Whether it only leaves room for entries of which nobody knew whether they had been there."""
        return self.kind == GAP and msgspec.json.decode(self.payload, type=Gap).is_room

    def batch(self) -> Batch | None:
        """Decode the batch; None if it stands for entries that are known to be missing."""
        if self.kind == GAP:
            return None
        if self.kind == STREAM:
            return pa.ipc.open_stream(pa.py_buffer(self.payload)).read_next_batch()
        return pa.ipc.read_record_batch(pa.py_buffer(self.payload), self.schema)


class Encoder:
    """Turns batches into the records of one segment."""

    def __init__(self, seed: int) -> None:
        self._seed = self._schema_seed = seed
        self._schema: pa.Schema | None = None
        self._kept: set[int] = set()

    def encode(self, number: int, batch: Batch) -> Parts:
        """Return the parts of the records of one entry, in the order in which they are written."""
        batch = batch.replace_schema_metadata(None)
        parts: Parts = []
        if self._schema is None or not batch.schema.equals(self._schema):
            if any(has_dictionary(field.type) for field in batch.schema):
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, batch.schema) as writer:
                    writer.write_batch(batch)
                return record(STREAM, number, sink.getvalue(), self._seed)
            self._schema = batch.schema
            payload = batch.schema.serialize()
            parts = record(SCHEMA, number, payload, self._seed)
            name = zlib.crc32(payload)
            self._schema_seed = _schema_seed(self._seed, name)
            if name not in self._kept:  # The first one stands there twice: without it no batch can be read.
                parts += parts
                self._kept.add(name)
        return parts + record(BATCH, number, batch.serialize(), self._schema_seed)

    def forget_schema(self) -> None:
        """Write the next schema again: what was encoded last was not kept."""
        self._schema = None
        self._kept.clear()


def record(kind: int, number: int, payload: pa.Buffer | bytes, seed: int) -> Parts:
    """Return the parts of one record."""
    length, checksum = len(payload), zlib.crc32(payload)
    return [HEADER.pack(kind, _check(kind, length, checksum, number, seed), length, checksum, number), payload]


def gap_record(gap: Gap, last: int, seed: int) -> bytes:
    """Return the record that stands for entries that are missing."""
    return b"".join(record(GAP, last, msgspec.json.encode(gap), seed))


def head_record(head: Head) -> bytes:
    """Return the first record of a segment."""
    return b"".join(record(HEAD, head.first, msgspec.json.encode(head), 0))


def has_dictionary(kind: pa.DataType) -> bool:
    """Tell whether values of this type refer to a dictionary."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        return True
    return any(has_dictionary(kind.field(index).type) for index in range(kind.num_fields))


def read_head(path: Path) -> Head | None:
    """Return what the first record of a segment says; None if it is damaged, or of an earlier version.

    Raises ConfigError if a later version wrote it.
    """
    with path.open("rb") as file:
        found = _Reader(file, 0).intact(0)
    if found is None or found.kind != HEAD:
        return None
    try:
        version = msgspec.json.decode(found.payload)["version"]
        if version == VERSION:
            return msgspec.json.decode(found.payload, type=Head)
    except (msgspec.MsgspecError, KeyError, TypeError):
        return None
    raise ConfigError(f"write-ahead log {path}: written by a later version of Penstock (format {version})")


def records(
    path: Path, seed: int | None, low: int, last: Callable[[], int] | None = None, schemas: Schemas | None = None
) -> Iterator[Record]:
    """Yield the intact records of a segment in the order of the file, whatever stands between them.

    Entries are numbered from ``low`` on; behind number ``last()`` the file may still be written. ``seed`` is None if
    the checks of the segment are not known. ``schemas`` are those seen in other segments.
    """
    with path.open("rb") as file:
        reader = _Reader(file, seed, schemas)
        at, number = 0, low - 1
        while last is None or number < last():
            found = reader.intact(at) or reader.search(at, number)
            if found is None:
                return
            at = found.end
            if found.kind in ENTRIES:
                number = max(number, found.number)
            yield found


class _Reader:
    """Tells intact records of one file from all else."""

    def __init__(self, file: BinaryIO, seed: int | None, schemas: Schemas | None = None) -> None:
        self._file, self._seed = file, seed
        self._schemas = schemas if schemas is not None else {}
        self._schema: pa.Schema | None = None
        self._schema_seed: int | None = None

    def intact(self, at: int) -> Record | None:
        """Return the record that begins at a place; None if none does."""
        if self._file.tell() != at:
            self._file.seek(at)
        header = self._file.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        kind, _, length, checksum, number = HEADER.unpack(header)
        room = os.fstat(self._file.fileno()).st_size - at - HEADER.size
        if not SCHEMA <= kind <= GAP or not 0 < length <= room:
            return None
        payload = self._file.read(length)
        if zlib.crc32(payload) != checksum:
            return None
        return self._checked(Record(kind, number, payload, at, at + HEADER.size + length), header[:4], checksum)

    def search(self, at: int, number: int) -> Record | None:
        """Return the first record behind a place; without checks only one whose number may follow ``number``."""
        if self._seed is None:
            self._schema = None  # Which schema stood in what is damaged cannot be known.
        self._file.seek(at)
        data = self._file.read()
        nearest = len(data) // HEADER.size + 1
        for match in re.finditer(rb"[\x01-\x05]", data):
            start = match.start()
            if start + HEADER.size >= len(data):
                return None
            kind, _, length, checksum, found = HEADER.unpack_from(data, start)
            begin = start + HEADER.size
            if not 0 < length <= len(data) - begin or (self._seed is None and not number < found <= number + nearest):
                continue
            payload = data[begin : begin + length]
            if zlib.crc32(payload) == checksum:
                one = Record(kind, found, payload, at + start, at + begin + length)
                if (checked := self._checked(one, data[start : start + 4], checksum)) is not None:
                    return checked
        return None

    def _checked(self, found: Record, header: bytes, checksum: int) -> Record | None:
        """Return the record, with its schema, if its check is right."""
        if found.kind == HEAD:
            return found if found.start == 0 and header[1:] == _expected(found, checksum, 0) else None
        if found.kind == BATCH:
            return self._with_schema(found, header[1:], checksum)
        if self._seed is not None and header[1:] != _expected(found, checksum, self._seed):
            return None
        if found.kind == SCHEMA:
            self._schema = self._schemas[checksum] = pa.ipc.read_schema(pa.py_buffer(found.payload))
            self._schema_seed = None if self._seed is None else _schema_seed(self._seed, checksum)
        return found

    def _with_schema(self, found: Record, check: bytes, checksum: int) -> Record | None:
        schema = self._schema
        is_current = self._schema_seed is not None and check == _expected(found, checksum, self._schema_seed)
        if self._seed is not None and not is_current:
            seeds = ((one, _schema_seed(self._seed, name)) for name, one in self._schemas.items())
            schema = next((one for one, seed in seeds if check == _expected(found, checksum, seed)), None)
        if schema is None:
            return None
        return Record(found.kind, found.number, found.payload, found.start, found.end, schema)


def _schema_seed(seed: int, schema: int) -> int:
    return zlib.crc32(schema.to_bytes(4, "little"), seed)


def _check(kind: int, length: int, checksum: int, number: int, seed: int) -> bytes:
    return zlib.crc32(HEADER.pack(kind, b"", length, checksum, number), seed).to_bytes(4, "little")[:3]


def _expected(found: Record, checksum: int, seed: int) -> bytes:
    return _check(found.kind, len(found.payload), checksum, found.number, seed)
