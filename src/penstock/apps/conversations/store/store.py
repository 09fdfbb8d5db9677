"""The tables, as lines are written to them: by one thread, one call at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import Connection, func, insert, select, text, update

from ....errors import PenstockError
from ....platform.columns import moment_text
from ....platform.database import Database
from ..schema import files, lines
from . import counting
from .counting import Found
from .reading import Row

_SEARCH = text(
    "INSERT INTO conversations_search (rowid, text)"
    " SELECT id, text FROM conversations_lines WHERE id > :last ORDER BY id"
)


class Source(NamedTuple):
    """Where the files of a stream are from."""

    root: Path
    host: str
    owner: str

    def project_of(self, path: str) -> str:
        """Return the project of a file: the folder in the root that it is in, or the root itself."""
        try:
            parts = Path(path).relative_to(self.root).parts
        except ValueError:
            parts = Path(path).parts[-2:]
        return parts[0] if len(parts) > 1 else self.root.name


class File(msgspec.Struct):
    """A file of the log, as it is known so far."""

    id: int
    project: str
    generation: int
    last_row: int
    session: str | None
    """The session of its latest line, to which lines belong that name none."""
    at: datetime | None
    """The time of its latest line that has one."""
    model: str | None = None
    """The model of its latest line that names one."""


class Store:
    """The tables on one connection."""

    def __init__(self, database: Database, source: Source) -> None:
        self._database, self._source = database, source
        self._connection = database.connect()
        self._moment: Callable[[datetime], Any] = (lambda at: at) if database.is_postgres else moment_text
        self._files: dict[str, File] = {}

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()
        self._database.close()

    def write(self, rows: Sequence[Row]) -> None:
        """Store the lines that are not there yet, in one transaction; raises PenstockError."""
        try:
            with self._connection.begin():
                self._write(self._connection, rows)
        except BaseException as error:
            self._files.clear()  # as if nothing of it had been
            if isinstance(error, Exception) and not isinstance(error, PenstockError):
                raise self._database.classify_error(error) from error
            raise

    def _write(self, connection: Connection, rows: Sequence[Row]) -> None:
        by_file: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_file[row.path].append(row)
        stored: list[tuple[Any, ...]] = []
        found: list[Found] = []
        for path, of_file in by_file.items():
            file = self._file(connection, path, next((row.line.project for row in of_file if row.line.project), None))
            for row in self._new(connection, file, of_file):
                found.append(_place(file, row))
                stored.append(_stored(file, found[-1], self._moment))
            connection.execute(
                update(files).where(files.c.id == file.id),
                {"generation": file.generation, "last_row": file.last_row},
            )
        if not stored:
            return
        last = connection.scalar(select(func.max(lines.c.id))) or 0
        self._insert(connection, stored)
        if not self._database.is_postgres:
            connection.execute(_SEARCH, {"last": last})
        counting.count(connection, found, self._source.host, self._source.owner)

    def _insert(self, connection: Connection, stored: Sequence[tuple[Any, ...]]) -> None:
        """Insert lines with the driver's own statement: SQLAlchemy would take longer than SQLite does."""
        mark = "%s" if self._database.is_postgres else "?"
        statement = f"INSERT INTO {lines.name} ({', '.join(_COLUMNS)}) VALUES ({', '.join([mark] * len(_COLUMNS))})"  # noqa: S608
        connection.exec_driver_sql(statement, list(stored))

    def _file(self, connection: Connection, path: str, named: str | None) -> File:
        if path in self._files:
            return self._files[path]
        _, host, owner = self._source
        where = (files.c.host == host, files.c.path == path)
        known = connection.execute(select(files).where(*where)).one_or_none()
        if known is None:
            project = named or self._source.project_of(path)
            given = {"host": host, "path": path, "owner": owner, "project": project}
            id = connection.execute(insert(files).values(given).returning(files.c.id)).scalar_one()
            file = File(id, project, 0, -1, _named(path), None)
        else:
            of_file = select(lines.c.session, lines.c.at).where(lines.c.file_id == known.id)
            session, at = connection.execute(of_file.order_by(lines.c.row.desc()).limit(1)).one_or_none() or (
                None,
                None,
            )
            model = connection.scalar(
                select(lines.c.model)
                .where(lines.c.file_id == known.id, lines.c.model.is_not(None))
                .order_by(lines.c.row.desc())
                .limit(1)
            )
            file = File(known.id, known.project, known.generation, known.last_row, session or _named(path), at, model)
        self._files[path] = file
        return file

    def _new(self, connection: Connection, file: File, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the lines that are not stored yet.

        A place that was read before holds the same line, as it comes again after a crash, or another one, as the file
        was written anew. From there on a line that was in the file before takes its new place.
        """
        left: dict[bytes, list[int]] | None = None
        for row in rows:
            if row.row <= file.last_row:
                if self._is_stored(connection, file, row):
                    continue
                self._begin_generation(connection, file, row.row)
            if file.generation:
                left = self._left(connection, file) if left is None else left
                if again := left.get(row.digest):
                    moved = {"generation": file.generation, "row": row.row}
                    connection.execute(update(lines).where(lines.c.id == again.pop(0)), moved)
                    file.last_row = row.row
                    continue
            file.last_row = row.row
            yield row

    @staticmethod
    def _is_stored(connection: Connection, file: File, row: Row) -> bool:
        here = (lines.c.file_id == file.id, lines.c.generation == file.generation, lines.c.row == row.row)
        return connection.scalar(select(lines.c.digest).where(*here)) == row.digest

    @staticmethod
    def _begin_generation(connection: Connection, file: File, first: int) -> None:
        """Note that the file was written anew from its line ``first`` on; the lines before it are still there."""
        kept = (lines.c.file_id == file.id, lines.c.generation == file.generation, lines.c.row < first)
        file.generation += 1
        file.last_row = first - 1
        connection.execute(update(lines).where(*kept), {"generation": file.generation})

    @staticmethod
    def _left(connection: Connection, file: File) -> dict[bytes, list[int]]:
        """Return the lines that were in the file before it was written anew, and were not found again yet."""
        older = (lines.c.file_id == file.id, lines.c.generation < file.generation)
        left: dict[bytes, list[int]] = defaultdict(list)
        for digest, id in connection.execute(select(lines.c.digest, lines.c.id).where(*older).order_by(lines.c.row)):
            left[digest].append(id)
        return left


def _place(file: File, row: Row) -> Found:
    """Return the line with the session and the time that it takes from those before it, where it names none."""
    line = row.line
    session = line.session or (None if line.leaf else file.session)
    at = line.at or file.at or row.read_at
    if line.session:
        file.session = line.session
    if line.at:
        file.at = line.at
    file.model = line.model or file.model
    return Found(file.id, file.project, session, at, row, file.model)


_COLUMNS = (
    "file_id", "generation", "row", "digest", "type", "subtype", "kind", "uuid", "parent", "session", "agent",
    "is_sidechain", "at", "read_at", "is_at_given", "model", "tools", "paths", "leaf", "text", "line",
)  # fmt: skip


def _stored(file: File, found: Found, moment: Callable[[datetime], Any]) -> tuple[Any, ...]:
    """Return the values of ``_COLUMNS``."""
    row, line = found.row, found.row.line
    paths = [call.path for call in line.calls if call.path]
    return (
        file.id, file.generation, row.row, row.digest, line.type, line.subtype, line.kind.value, line.uuid, line.parent,
        found.session, line.agent, line.is_sidechain, moment(found.at), moment(row.read_at), line.at is not None,
        line.model, f" {' '.join(call.name for call in line.calls)} " if line.calls else None,
        "\n".join(["", *paths, ""]) if paths else None, line.leaf, line.text, row.bytes,
    )  # fmt: skip


def _named(path: str) -> str | None:
    """Return the session for which a file is named."""
    try:
        return str(UUID(Path(path).stem))
    except ValueError:
        return None
