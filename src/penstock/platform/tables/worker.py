"""Run one query of a person in a process of its own, with a bound of memory, and write what it finds.

The process reads one JSON object (``Task``) from its standard input. It writes lines of JSON: the columns, the rows,
and at last how it ended; or, for a file, the file, and how it ended on the standard error.
"""

from __future__ import annotations

import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ...errors import PenstockError, PermanentError
from .cells import show

MAX_CELL_SIZE = 10_000
"""Characters of a cell of a result."""
MAX_RESULT_SIZE = 8_000_000
"""Characters of a result."""
MAX_VALUE_SIZE = 50_000_000
"""Bytes of one value within SQLite."""


class Task(msgspec.Struct):
    """A query, where it runs, and its bounds."""

    engine: str
    sql: str
    timeout: float
    limit: int
    memory: int
    files: dict[str, str] = {}
    """SQLite: the files that it may read, by the names of their databases. DuckDB: one."""
    conninfo: str = ""
    schemas: list[str] = []
    """PostgreSQL: where tables are looked for."""
    hidden: dict[str, list[str]] = {}
    """Tables that are not read, by database or schema."""
    format: str = ""


class Outcome(msgspec.Struct):
    """How it ended."""

    error: str = ""
    rows: int = 0
    is_cut: bool = False
    """Whether there are more rows, or parts of cells, than are shown."""


Found = tuple[Sequence[str], Iterator[Sequence[Any]]]


def main() -> None:
    """Run the task of the standard input."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    _bound(task)
    try:
        outcome = _run(task)
    except PenstockError as error:
        outcome = Outcome(str(error))
    except MemoryError:
        outcome = Outcome(f"the query needs more than {task.memory // 1_000_000} MB of memory")
    except KeyboardInterrupt:
        outcome = Outcome("it was cancelled, or took too long")
    ended = msgspec.json.encode(outcome)
    where = sys.stderr if task.format else sys.stdout
    with suppress(BrokenPipeError):
        where.buffer.write(ended + b"\n")
        where.flush()


def _bound(task: Task) -> None:
    """Set the bounds of memory and time; what does not exist on this system is left out."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (task.memory, task.memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, task.timeout + 1)


def _run(task: Task) -> Outcome:
    columns, rows = find(task)
    if task.format:
        from .files import write

        for piece in write(task.format, columns, rows):  # type: ignore[arg-type]
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return Outcome()
    out = sys.stdout.buffer
    out.write(msgspec.json.encode(list(columns)) + b"\n")
    count = size = 0
    is_cut = False
    for row in rows:
        if count >= task.limit or size > MAX_RESULT_SIZE:
            is_cut = True
            break
        cells = [show(cell, MAX_CELL_SIZE) for cell in row]
        is_cut = is_cut or any(cell.is_cut for cell in cells)
        line = msgspec.json.encode([cell.value for cell in cells])
        size += len(line)
        count += 1
        out.write(line + b"\n")
    return Outcome(rows=count, is_cut=is_cut)


def find(task: Task) -> Found:
    """Return the columns and the rows of a query; raises PenstockError, also while the rows are taken."""
    return _ENGINES[task.engine](task)


def _sqlite(task: Task) -> Found:
    from .guards import READ_ONLY, sqlite_guard

    connection = sqlite3.connect(":memory:", isolation_level=None)
    for name, file in task.files.items():
        connection.execute(f'ATTACH ? AS "{name}"', (f"{Path(file).absolute().as_uri()}?mode=ro",))
    connection.execute("PRAGMA query_only = ON")
    connection.text_factory = lambda found: found.decode("utf-8", "replace")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_SIZE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, len(task.files))
    connection.set_progress_handler(lambda: 0, 10_000)  # Lets a signal in.
    connection.set_authorizer(sqlite_guard(task.hidden))
    try:
        cursor = connection.execute(task.sql)
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _sqlite_error(error) from error
    if cursor.description is None:
        raise PermanentError(READ_ONLY)
    return [column[0] for column in cursor.description], _each(cursor, _sqlite_error)


def _sqlite_error(error: Exception) -> PenstockError:
    from .guards import READ_ONLY

    text = str(error)
    if text == "interrupted":
        return PermanentError("it was cancelled, or took too long")
    if "access to" in text and "prohibited" in text:
        return PermanentError(f"{text.removesuffix(' is prohibited')} is not read here")
    return PermanentError(READ_ONLY if "authoriz" in text or "one statement" in text else text)


def _each(cursor: Any, classify: Callable[[Exception], PenstockError]) -> Iterator[Sequence[Any]]:
    try:
        while (row := cursor.fetchone()) is not None:
            yield row
    except MemoryError:
        raise
    except Exception as error:
        raise classify(error) from error


def _postgres(task: Task) -> Found:
    import psycopg

    from .guards import READ_ONLY, check_postgres
    from .postgres_session import assume, open_connection

    def classify(error: Exception) -> PenstockError:
        if getattr(error, "sqlstate", None) in ("25006", "42601") and "syntax error" not in str(error):
            return PermanentError(READ_ONLY)
        return PermanentError(str(error).partition("\nLINE")[0].partition("\nCONTEXT")[0])

    def each() -> Iterator[Any]:
        try:
            take_on = assume(task.conninfo, task.schemas, task.hidden)
            with open_connection(task.conninfo, task.timeout) as connection, connection.cursor() as cursor:
                check_postgres(connection, task.sql)
                connection.execute(take_on)
                settings = {"work_mem": "32MB", "search_path": ", ".join(f'"{name}"' for name in task.schemas)}
                for name, value in settings.items():
                    connection.execute("SELECT set_config(%s, %s, true)", [name, value])
                rows = cursor.stream(task.sql.encode())
                first = next(rows, None)
                if cursor.description is None:
                    raise PermanentError(READ_ONLY)
                yield [column.name for column in cursor.description]
                if first is not None:
                    yield first
                    yield from rows
        except psycopg.Error as error:
            raise classify(error) from error

    found = each()
    return next(found), found


def _duckdb(task: Task) -> Found:
    import duckdb

    from .guards import check_duckdb

    [file] = task.files.values()
    locked: dict[str, str | bool | int | float | list[str]] = {
        "enable_external_access": "false",
        "memory_limit": f"{task.memory // 2_000_000}MB",
        "threads": "2",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
    }
    try:
        connection = duckdb.connect(file, read_only=True, config=locked)
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET lock_configuration = true")
        check_duckdb(connection, task.sql, {name for names in task.hidden.values() for name in names})
        cursor = connection.execute(task.sql)
    except duckdb.Error as error:
        raise PermanentError(str(error).partition("\n\nLINE")[0]) from error
    description = cursor.description or []

    def classify(error: Exception) -> PenstockError:
        return PermanentError(str(error).partition("\n\nLINE")[0])

    return [column[0] for column in description], _each(cursor, classify)


_ENGINES: dict[str, Callable[[Task], Found]] = {"sqlite": _sqlite, "postgres": _postgres, "duckdb": _duckdb}


if __name__ == "__main__":
    main()
