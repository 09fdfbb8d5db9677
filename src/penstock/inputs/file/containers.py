"""Read Parquet and Arrow files: batches of columns, unit by unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import pyarrow as pa

from .content import Content, ContentFile, Damaged, Rewritten
from .part import Part
from .place import Place

_ARROW_MAGIC = b"ARROW1"
_FAILURES = (pa.ArrowException, OSError, ValueError, EOFError)


class Units(Protocol):
    """A container, opened: its row groups or record batches."""

    count: int | None
    """How many units there are; None while that is not known."""

    def batches(self, unit: int, skipped: int) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """Yield what a unit holds behind its first ``skipped`` rows, and with each batch whether it is the last."""
        ...


class ContainerReader:
    """Reads a container unit by unit; a unit that is damaged does not hide the next."""

    def __init__(
        self,
        content: Content,
        units: type[RowGroups] | type[RecordBatches],
        place: Place,
        version: str,
        path: str,
        columns: frozenset[str] | None,
        batch_rows: int,
    ) -> None:
        self._content, self._path = content, path
        self._kind, self._columns, self._batch_rows = units, columns, batch_rows
        if place.mark not in ("", version):
            raise Rewritten
        self._place, self._version, self._size = place, version, content.size()
        self._file = ContentFile(content)
        self._units: Units | None = None
        self._batches: Iterator[tuple[pa.RecordBatch, bool]] | None = None

    def read(self, final: bool, version: str | None) -> Part | None:
        """Return the next batch; raises Damaged for a unit that cannot be read, and goes on behind it."""
        if self._place.version == self._version:
            return None
        if self._units is None:
            self._units = self._open()
        while self._units.count is None or self._place.offset < self._units.count:
            batch, last = self._next(self._units)
            if batch is None and self._units.count is None:
                break  # a stream is over when it has no further batch
            place, rows = self._place, batch.num_rows if batch is not None else 0
            within = 0 if last else place.within + rows
            self._place = self._moved(place.offset + last, within, place.rows + rows)
            if self._place.offset == self._units.count:
                self._place = self._place.finished(self._version)
            if rows:
                return Part(self._place, place.rows, batch)
        self._place = self._place.finished(self._version)
        return Part(self._place, self._place.rows)

    def _moved(self, unit: int, within: int, rows: int) -> Place:
        return replace(self._place, offset=unit, within=within, rows=rows, mark=self._version, version="")

    def _open(self) -> Units:
        try:
            return self._kind(self._file, self._columns, self._batch_rows)
        except _FAILURES as error:
            raise self._failure(error, False) from None

    def _next(self, units: Units) -> tuple[pa.RecordBatch | None, bool]:
        try:
            if self._batches is None:
                self._batches = units.batches(self._place.offset, self._place.within)
            batch, last = next(self._batches, (None, True))
        except _FAILURES as error:
            self._batches = None
            raise self._failure(error, units.count is not None) from None
        if last:
            self._batches = None
        return batch, last

    def _failure(self, error: Exception, goes_on: bool) -> Exception:
        if self._file.failure is not None:
            failure, self._file.failure = self._file.failure, None
            return failure
        unit = self._place.offset
        if goes_on:
            self._place = self._moved(unit + 1, 0, self._place.rows)
        where = f" (unit {unit})" if goes_on else ""
        return Damaged(f"{self._path}{where} cannot be read: {error}", self._place if goes_on else None)

    def resumes(self) -> bool:
        """Tell whether the file may be read on though it is another one: never, since it is not read as it grows."""
        return False

    def end(self) -> Place:
        """Return the place behind everything."""
        return self._place.finished(self._version)

    def done(self) -> int:
        """Return how many bytes of the file were taken, in proportion to its units."""
        if self._place.version == self._version or self._units is None or not self._units.count:
            return self._size if self._place.version == self._version else 0
        return self._size * self._place.offset // self._units.count

    def close(self) -> None:
        """Close the file."""
        self._content.close()


class RowGroups:
    """A Parquet file."""

    def __init__(self, file: ContentFile, columns: frozenset[str] | None, batch_rows: int) -> None:
        from pyarrow import parquet

        self._batch_rows = batch_rows
        self._file = parquet.ParquetFile(pa.PythonFile(file, mode="r"))
        self.count: int | None = self._file.num_row_groups
        names = self._file.schema_arrow.names
        # of a file none of whose columns are read, the rows still count
        self._columns = None if columns is None else [name for name in names if name in columns] or names[:1]

    def batches(self, unit: int, skipped: int) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """Yield the batches of a row group."""
        rows, seen = self._file.metadata.row_group(unit).num_rows, 0
        for batch in self._file.iter_batches(self._batch_rows, row_groups=[unit], columns=self._columns):
            seen += batch.num_rows
            rest = batch.slice(max(0, skipped - (seen - batch.num_rows)))
            if rest.num_rows:
                yield rest, seen >= rows


class RecordBatches:
    """An Arrow file, which knows where its batches are, or a stream of Arrow, which does not."""

    def __init__(self, file: ContentFile, columns: frozenset[str] | None, batch_rows: int) -> None:
        self._batch_rows = batch_rows
        magic = file.read(len(_ARROW_MAGIC))
        file.seek(0)
        source = pa.PythonFile(file, mode="r")
        self._columns = columns
        self._file = pa.ipc.open_file(source) if magic == _ARROW_MAGIC else None
        self._stream = pa.ipc.open_stream(source) if self._file is None else None
        self.count: int | None = self._file.num_record_batches if self._file is not None else None
        self._at = 0

    def batches(self, unit: int, skipped: int) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """Yield slices of one record batch."""
        batch = self._batch(unit)
        if batch is None:
            return
        if self._columns is not None:
            names = batch.schema.names
            batch = batch.select([name for name in names if name in self._columns] or names[:1])
        for start in range(skipped, max(batch.num_rows, skipped + 1), self._batch_rows):
            yield batch.slice(start, self._batch_rows), start + self._batch_rows >= batch.num_rows

    def _batch(self, unit: int) -> pa.RecordBatch | None:
        if self._file is not None:
            return self._file.get_batch(unit)
        assert self._stream is not None
        batch = None
        while self._at <= unit:
            try:
                batch = self._stream.read_next_batch()
            except StopIteration:
                return None
            self._at += 1
        return batch
