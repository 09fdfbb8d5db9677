"""Rows as files, piece by piece as they are read: CSV, JSON and Parquet."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import IO, Any, Literal

import msgspec
import pyarrow as pa

from .cells import MAX_EXACT, as_text

Format = Literal["csv", "json", "jsonl", "parquet"]
TYPES: dict[str, str] = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
BATCH_SIZE = 2000
"""How many rows make a piece."""

Row = Sequence[Any]


def write(format: Format, columns: Sequence[str], rows: Iterable[Row]) -> Iterator[bytes]:
    """Yield a file of rows; no more than a piece is held."""
    batches = _batches(rows)
    if format == "parquet":
        yield from _parquet(columns, batches)
    elif format == "csv":
        yield from _csv(columns, batches)
    else:
        yield from _json(columns, batches, lines=format == "jsonl")


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    found = iter(rows)
    while batch := list(islice(found, BATCH_SIZE)):
        yield batch


def _csv(columns: Sequence[str], batches: Iterable[list[Row]]) -> Iterator[bytes]:
    for batch in chain([[columns]], batches):
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerows([_field(cell) for cell in row] for row in batch)
        yield text.getvalue().encode("utf-8", "replace")


def _field(cell: Any) -> Any:
    return cell if cell is None or isinstance(cell, int | float) else as_text(cell)


def _json(columns: Sequence[str], batches: Iterable[list[Row]], *, lines: bool) -> Iterator[bytes]:
    between = b"\n" if lines else b",\n"
    if not lines:
        yield b"[\n"
    is_first = True
    for batch in batches:
        objects = (msgspec.json.encode(dict(zip(columns, map(_plain, row), strict=True))) for row in batch)
        yield (b"" if is_first else between) + between.join(objects)
        is_first = False
    yield b"\n" if lines else b"\n]\n"


def _plain(cell: Any) -> Any:
    if cell is None or isinstance(cell, bool | str | list | dict):
        return cell if not isinstance(cell, str) else cell.encode("utf-8", "replace").decode()
    if isinstance(cell, int):
        return cell if abs(cell) <= MAX_EXACT else str(cell)
    if isinstance(cell, float):
        return cell if cell == cell and abs(cell) != float("inf") else str(cell)
    return as_text(cell)


class _Sink(io.RawIOBase):
    """Keeps what was written until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._position += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def _parquet(columns: Sequence[str], batches: Iterator[list[Row]]) -> Iterator[bytes]:
    """Yield row groups; a column whose values are of one kind keeps it, any other one is text.

    The kinds are known once the last row was read: until then the rows wait in a file.
    """
    import pyarrow.parquet as pq  # a service that nobody asks for such a file does without it

    columns = _distinct(columns)
    with tempfile.TemporaryFile() as waiting:
        kinds = [pa.null()] * len(columns)
        for batch in batches:
            cells = list(zip(*batch, strict=True))
            of_batch = [_kind(column) for column in cells]
            kinds = [_joined_kind(kind, other) for kind, other in zip(kinds, of_batch, strict=True)]
            arrays = [_array(column, kind) for column, kind in zip(cells, of_batch, strict=True)]
            _put(waiting, pa.record_batch(arrays, names=columns))
        kinds = [pa.string() if kind == pa.null() else kind for kind in kinds]
        schema = pa.schema(list(zip(columns, kinds, strict=True)))
        waiting.seek(0)
        sink = _Sink()
        with pq.ParquetWriter(sink, schema) as writer:
            for found in _take(waiting):
                arrays = [_as_kind(column, kind) for column, kind in zip(found.columns, kinds, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
                yield sink.take()
        yield sink.take()


def _put(waiting: IO[bytes], batch: pa.RecordBatch) -> None:
    """Append a batch, as a stream of its own: each has its kinds."""
    with pa.ipc.new_stream(waiting, batch.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
        stream.write_batch(batch)


def _take(waiting: IO[bytes]) -> Iterator[pa.RecordBatch]:
    """Yield the batches that were appended."""
    end = os.fstat(waiting.fileno()).st_size
    while waiting.tell() < end:
        yield from pa.ipc.open_stream(waiting)


def _distinct(columns: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    named = []
    for name in columns:
        seen[name] = seen.get(name, 0) + 1
        named.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return named


def _kind(cells: Sequence[Any]) -> pa.DataType:
    kinds = {type(cell) for cell in cells if cell is not None}
    if not kinds:
        return pa.null()
    if kinds == {bool}:
        return pa.bool_()
    if kinds <= {int, float}:
        if any(isinstance(cell, int) and not -(2**63) <= cell < 2**63 for cell in cells):
            return pa.string()
        return pa.int64() if kinds == {int} else pa.float64()
    if kinds == {bytes}:
        return pa.binary()
    return pa.string()


def _joined_kind(kind: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Return the kind of a column some of whose values are of one kind, and some of another."""
    kinds = {kind, other} - {pa.null()}
    if kinds == {pa.int64(), pa.float64()}:
        return pa.float64()
    return pa.string() if len(kinds) > 1 else next(iter(kinds), pa.null())


def _as_kind(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type == kind else _array(column.to_pylist(), kind)


def _array(cells: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.string():
        cells = [None if cell is None else as_text(cell).encode("utf-8", "replace").decode() for cell in cells]
    elif kind == pa.float64():
        cells = [float(cell) if isinstance(cell, int) else cell for cell in cells]
    return pa.array(cells, kind)
