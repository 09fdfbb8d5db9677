"""The rows that were there when the slot was made: read at once into files of our own, and delivered from them.

The database is asked for a snapshot only for as long as the rows take to be copied. From the files reading goes on
after a crash where it stopped, so that no row comes twice.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.csv as csv

from ...clients import postgres
from ...delivery import Batch
from ...errors import ConfigError
from ..sql.source import quoted
from .catalogue import Catalogue, Table
from .values import TEXT, Column, Kind, kind_of

_KINDS = b"penstock.kinds"
_MANIFEST = "snapshot.json"
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")
_BATCH_SIZE = 4 << 20
"""Bytes of rows in one batch of a file at most, unless one row is larger."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the files."""

    system: str
    slot: str
    lsn: int = 0
    """Where the slot begins; 0 as long as the slot and the files are being made."""
    tables: list[tuple[str, str]] = []
    """The schema and the name of the table in each file."""


class Spool:
    """The files of a snapshot, one for each table."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: tuple[int, pa.ipc.RecordBatchFileReader, list[Column]] | None = None

    def manifest(self) -> Manifest | None:
        """Return what the files hold; None if there are none."""
        try:
            return msgspec.json.decode((self._folder / _MANIFEST).read_bytes(), type=Manifest)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:  # as after a disk that was full
            return None

    def begin(self, manifest: Manifest) -> None:
        """Write down that a slot is about to be made, which nobody else has."""
        self.remove()
        self._folder.mkdir(mode=0o700, parents=True)
        self._write_manifest(manifest)

    def finish(self, manifest: Manifest) -> None:
        """Write down that the files are whole."""
        self._write_manifest(manifest)

    def _write_manifest(self, manifest: Manifest) -> None:
        path = self._folder / _MANIFEST
        temporary = path.with_suffix(".tmp")
        with _private(temporary) as file:
            file.write(msgspec.json.encode(manifest))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self) -> None:
        """Delete the files."""
        self._open = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, index: int, columns: Sequence[Column], batches: Iterator[Batch]) -> None:
        """Write the rows of a table, all of whose columns are texts."""
        kinds = [(column.name, column.kind.name, column.kind.modifier, column.kind.is_array) for column in columns]
        schema = pa.schema(
            [pa.field(f"{number}", TEXT) for number in range(len(columns))],
            metadata={_KINDS: msgspec.json.encode(kinds)},
        )
        with _private(self._folder / f"{index}.arrow") as file:
            with pa.ipc.new_file(file, schema, options=_OPTIONS) as writer:
                for batch in batches:
                    writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
            file.flush()
            os.fsync(file.fileno())

    def read(self, index: int, batch: int) -> tuple[list[Column], Batch] | None:
        """Return a batch of a table; None behind the last one. Raises ConfigError if the file is gone."""
        if self._open is None or self._open[0] != index:
            path = self._folder / f"{index}.arrow"
            try:
                found = pa.ipc.open_file(pa.OSFile(str(path)))
            except (OSError, pa.ArrowInvalid) as error:
                raise ConfigError(
                    f"the snapshot of the database was kept in {path}, which cannot be read ({error}): what it held "
                    "was not delivered to its end. Give the stream another `id` and a new `slot` to begin anew"
                ) from error
            kinds = msgspec.json.decode(found.schema.metadata[_KINDS], type=list[tuple[str, str, int, bool]])
            columns = [Column(name, _kind(kind, modifier, is_array), False) for name, kind, modifier, is_array in kinds]
            self._open = index, found, columns
        _, file, columns = self._open
        return (columns, file.get_batch(batch)) if batch < file.num_record_batches else None


def _private(path: Path) -> io.BufferedWriter:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _kind(name: str, modifier: int, is_array: bool) -> Kind:
    return Kind(name, TEXT, is_array=True) if is_array else kind_of(name, modifier)


def copy_tables(
    spool: Spool, catalogue: Catalogue, snapshot: str, tables: Sequence[Table], rows: int
) -> list[tuple[str, str]]:
    """Copy all tables as they are in an exported snapshot; return their names, in the order of the files."""
    catalogue.rows("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        catalogue.rows(f"SET TRANSACTION SNAPSHOT '{snapshot.replace(chr(39), '')}'")
        copied: list[tuple[str, str]] = []
        for table in tables:
            if columns := catalogue.columns(table):
                batches = _copied(catalogue.connection, table, columns, rows)
                spool.write(len(copied), columns, batches)
                copied.append((table.schema, table.name))
    finally:
        catalogue.rows("ROLLBACK")
    return copied


def _copied(connection: postgres.Connection, table: Table, columns: Sequence[Column], rows: int) -> Iterator[Batch]:
    names = ", ".join(quoted(column.name) for column in columns)
    only = "" if table.is_partitioned else "ONLY "
    condition = f" WHERE {table.condition}" if table.condition else ""
    query = f"SELECT {names} FROM {only}{table.quoted}{condition}"  # noqa: S608
    with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv)".encode()) as copy:
        lines: list[bytes] = []
        size = 0
        for line in copy:
            lines.append(bytes(line))
            size += len(line)
            if len(lines) >= rows or size >= _BATCH_SIZE:
                yield _parsed(b"".join(lines), len(columns))
                lines, size = [], 0
        if lines:
            yield _parsed(b"".join(lines), len(columns))


def _parsed(data: bytes, count: int) -> Batch:
    names = [str(number) for number in range(count)]
    table = csv.read_csv(
        io.BytesIO(data),
        csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
        csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        csv.ConvertOptions(
            column_types=dict.fromkeys(names, TEXT),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )
    return table.combine_chunks().to_batches(max_chunksize=None)[0]
