"""Write lines as files: JSON Lines, CSV, Parquet, Markdown and HTML, piece by piece and without an end."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, select

from ..redaction import Redaction
from ..schema import files, lines, sessions
from . import readable
from .lists import Filter

Format: TypeAlias = Literal["jsonl", "csv", "parquet", "markdown", "html"]
MEDIA_TYPES: Mapping[Format, str] = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "markdown": "text/markdown",
    "html": "text/html",
}
SUFFIXES: Mapping[Format, str] = {
    "jsonl": "jsonl",
    "csv": "csv",
    "parquet": "parquet",
    "markdown": "md",
    "html": "html",
}
_BATCH_SIZE = 500
_COLUMNS = {
    "id": pa.int64(), "at": pa.timestamp("us", "UTC"), "is_at_given": pa.bool_(), "project": pa.string(),
    "session": pa.string(), "title": pa.string(), "host": pa.string(), "owner": pa.string(), "path": pa.string(),
    "kind": pa.string(), "type": pa.string(), "uuid": pa.string(), "parent": pa.string(), "agent": pa.string(),
    "is_sidechain": pa.bool_(), "model": pa.string(), "tools": pa.string(), "paths": pa.string(), "text": pa.string(),
    "line": pa.string(),
}  # fmt: skip
"""The columns of CSV and Parquet."""
_SPREADSHEET_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(connection: Connection, asked: Filter, format: Format, redaction: Redaction | None) -> Iterator[bytes]:
    """Yield the pieces of a file of all lines that are asked for, the sessions one after another.

    Secrets that ``redaction`` finds are taken out; None leaves them in.
    """
    rows = _rows(connection, asked)
    if format == "jsonl":
        return (_line(row, redaction) + b"\n" for row in rows)
    if format in ("markdown", "html"):
        write = readable.write_markdown if format == "markdown" else readable.write_html
        return _joined(piece.encode("utf-8", "replace") for piece in write(_cleaned(rows, redaction)))
    documents = (_document(row, redaction) for row in rows)
    return _csv(documents) if format == "csv" else _parquet(documents)


def _rows(connection: Connection, asked: Filter) -> Iterator[Any]:
    named = {"project": files.c.project, "host": files.c.host, "owner": files.c.owner, "path": files.c.path,
             "title": sessions.c.title}  # fmt: skip
    shown = [named[name].label(name) if name in named else lines.c[name] for name in _COLUMNS]
    joined = lines.join(files, files.c.id == lines.c.file_id).join(
        sessions, sessions.c.id == lines.c.session, isouter=True
    )
    statement = select(*shown).select_from(joined).where(*asked.conditions(connection))
    ordered = statement.order_by(lines.c.session, lines.c.at, lines.c.id)
    yield from connection.execution_options(yield_per=_BATCH_SIZE).execute(ordered)


def _line(row: Any, redaction: Redaction | None) -> bytes:
    line = bytes(row.line)
    return line if redaction is None else redaction.clean_line(line)


def _cleaned(rows: Iterable[Any], redaction: Redaction | None) -> Iterator[tuple[Any, str, bytes]]:
    """Yield each line with the title of its session and its bytes, both without secrets."""
    for row in rows:
        title = row.title or row.session or ""
        yield row, title if redaction is None else redaction.clean(title), _line(row, redaction)


def _document(row: Any, redaction: Redaction | None) -> dict[str, Any]:
    clean: Callable[[str], str] = redaction.clean if redaction is not None else lambda text: text
    document = {name: clean(value) if isinstance(value, str) else value for name, value in row._mapping.items()}
    for name in ("tools", "paths"):
        document[name] = (document[name] or "").strip() or None
    return document | {"line": _line(row, redaction).decode("utf-8", "replace")}


def write_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a table as CSV, in which no text is a formula."""
    text = io.StringIO()
    csv.writer(text).writerows([columns, *([_cell(value) for value in row] for row in rows)])
    return _taken(text)


def _csv(documents: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for document in documents:
        writer.writerow([_cell(document[name]) for name in _COLUMNS])
        if text.tell() > 1 << 16:
            yield _taken(text)
    yield _taken(text)


def _taken(text: io.StringIO) -> bytes:
    taken = text.getvalue().encode("utf-8", "replace")
    text.seek(0)
    text.truncate()
    return taken


def _cell(value: Any) -> Any:
    """Return a value as a spreadsheet shows it: a text that would be a formula there begins with an apostrophe."""
    if isinstance(value, datetime):
        return value.isoformat()
    return f"'{value}" if isinstance(value, str) and value.startswith(_SPREADSHEET_FORMULA) else value


def _parquet(documents: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    schema, buffer = pa.schema(list(_COLUMNS.items())), _Buffer()
    with pq.ParquetWriter(pa.PythonFile(buffer, mode="w"), schema, compression="zstd") as writer:
        for batch in _batches(documents):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
            yield buffer.take()
    yield buffer.take()


def _batches(documents: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    waiting: list[Mapping[str, Any]] = []
    size = 0
    for document in documents:
        waiting.append(document)
        size += len(document["line"])
        if size > 1 << 24:
            yield waiting
            waiting, size = [], 0
    if waiting:
        yield waiting


class _Buffer(io.RawIOBase):
    """What a writer of files has written and nobody has taken yet."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        return len(self._pieces[-1])

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield pieces that are worth sending."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size > 1 << 16:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)
