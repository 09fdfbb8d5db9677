"""The tables, as lines are written to them: by one thread, one call at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
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
        self._ids: dict[str, int] = {}
        self._files: dict[int, File] = {}

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
            self._ids.clear()
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
        self._forget_changed(connection, by_file)
        last = connection.scalar(select(func.max(lines.c.id))) or 0
        insert = partial(self._insert, connection, stored)
        names: set[str] = set()
        for path, of_file in by_file.items():
            if (name := Path(path).name) in names:  # perhaps a copy of a log that is in this batch too
                insert()
            names.add(name)
            file = self._file(connection, path, of_file)
            for row in self._new(connection, file, of_file, insert):
                found.append(_place(file, row))
                stored.append(_stored(file, found[-1], self._moment))
            connection.execute(
                update(files).where(files.c.id == file.id),
                {"generation": file.generation, "last_row": file.last_row},
            )
        insert()
        if not found:
            return
        if not self._database.is_postgres:
            connection.execute(_SEARCH, {"last": last})
        counting.count(connection, found, self._source.host, self._source.owner)

    def _insert(self, connection: Connection, stored: list[tuple[Any, ...]]) -> None:
        """Insert lines with the driver's own statement, and forget them: SQLAlchemy would take longer than SQLite."""
        if not stored:
            return
        mark = "%s" if self._database.is_postgres else "?"
        statement = f"INSERT INTO {lines.name} ({', '.join(_COLUMNS)}) VALUES ({', '.join([mark] * len(_COLUMNS))})"  # noqa: S608
        connection.exec_driver_sql(statement, list(stored))
        stored.clear()

    def _forget_changed(self, connection: Connection, paths: Iterable[str]) -> None:
        """Forget the files that another process, or a stream with a copy of them, wrote to meanwhile."""
        ids = {self._ids[path] for path in paths if path in self._ids}
        now = select(files.c.id, files.c.generation, files.c.last_row).where(files.c.id.in_(ids)).with_for_update()
        for id, generation, last_row in connection.execute(now) if ids else ():
            if (self._files[id].generation, self._files[id].last_row) != (generation, last_row):
                del self._files[id]

    def _file(self, connection: Connection, path: str, rows: Sequence[Row]) -> File:
        if path not in self._ids:
            self._ids[path] = self._id(connection, path, rows)
        id = self._ids[path]
        if id not in self._files:
            self._files[id] = _read_file(connection, id)
        return self._files[id]

    def _id(self, connection: Connection, path: str, rows: Sequence[Row]) -> int:
        """Return the number of a file, or of that which it is a copy of; a file that is not known is noted."""
        here = (files.c.host == self._source.host, files.c.path == path)
        known = connection.execute(select(files.c.id, files.c.same_as).where(*here)).one_or_none()
        if known is not None:
            return int(known.id if known.same_as is None else known.same_as)
        _, host, owner = self._source
        project = next((row.line.project for row in rows if row.line.project), None) or self._source.project_of(path)
        same_as = self._copied(connection, path, project, rows[0])
        given = {"host": host, "path": path, "name": Path(path).name, "owner": owner, "project": project}
        noted = insert(files).values(given | {"same_as": same_as}).returning(files.c.id)
        id: int = connection.execute(noted).scalar_one()
        return id if same_as is None else same_as

    def _copied(self, connection: Connection, path: str, project: str, first: Row) -> int | None:
        """Return the file that begins like this one at another path, as one does in an archive; None if none does.

        Sessions have names that nothing else has. Another log is a copy only in a project of the same name.
        """
        conditions = [files.c.host == self._source.host, files.c.name == Path(path).name, files.c.same_as.is_(None)]
        if _named(path) is None:
            if first.line.uuid is None and (first.line.session is None or first.line.at is None):
                return None
            conditions.append(files.c.project == project)
        begins = (lines.c.row == first.row, lines.c.generation == files.c.generation, lines.c.digest == first.digest)
        found = select(files.c.id).join(lines, lines.c.file_id == files.c.id).where(*conditions, *begins)
        return connection.scalar(found.order_by(files.c.id).limit(1))

    def _new(
        self, connection: Connection, file: File, rows: Iterable[Row], insert: Callable[[], None]
    ) -> Iterator[Row]:
        """Yield the lines that are not stored yet; ``insert`` stores those that were yielded.

        A place that was read before holds the same line, as it comes again after a crash, or another one, as the file
        was written anew. From there on a line that was in the file before takes its new place.
        """
        left: dict[bytes, list[int]] | None = None
        for row in rows:
            if row.row <= file.last_row:
                insert()
                if self._is_stored(connection, file, row):
                    continue
                self._begin_generation(connection, file, row.row)
                left = None
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


def _read_file(connection: Connection, id: int) -> File:
    """Return a file as it was left."""
    known = connection.execute(select(files).where(files.c.id == id)).one()
    if known.last_row < 0:
        return File(id, known.project, known.generation, known.last_row, _named(known.path), None)
    newest = lines.c.row.desc()
    latest = select(lines.c.session, lines.c.at).where(lines.c.file_id == id).order_by(newest).limit(1)
    session, at = connection.execute(latest).one_or_none() or (None, None)
    models = select(lines.c.model).where(lines.c.file_id == id, lines.c.model.is_not(None))
    model = connection.scalar(models.order_by(newest).limit(1))
    return File(id, known.project, known.generation, known.last_row, session or _named(known.path), at, model)


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
