"""Rows into SQLite and PostgreSQL, durable when each write returns, beside the databases' own bulk ways."""

from __future__ import annotations

import asyncio
import io
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .case import Case, Sample, Span, Unavailable, measured, rate
from .write_ahead_log import batch_of

_ROWS, _BATCHES = 8192, 50
_DDL = "CREATE TABLE readings (id bigint, sensor text, temperature double precision, at timestamptz, status text)"


@contextmanager
def _database(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'rows.db'}"
        return
    from penstock.testing.servers import postgres

    with postgres() as url:
        yield url


def _require(kind: str) -> Callable[[], object]:
    def check() -> None:
        if kind == "postgres":
            from penstock.testing.servers import ServerMissing, postgres_binaries

            try:
                postgres_binaries()
            except ServerMissing as error:
                raise Unavailable(str(error)) from error

    return check


def _penstock(kind: str) -> Callable[[Path], Sample]:
    async def write(folder: Path, url: str) -> Span:
        from penstock import Output
        from penstock.testing.contexts import lend_context

        output = Output.find("sql").model_validate({"url": url, "table_name": "readings"})
        batch = batch_of(_ROWS)
        async with lend_context(folder) as context, output.open(context) as writer:
            await writer.write([batch])
            with measured() as span:
                for _ in range(_BATCHES):
                    await writer.write([batch])
        return span

    def measure(folder: Path) -> Sample:
        import uvloop

        with _database(kind, folder) as url, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            span = runner.run(write(folder, url))
            _check(url)
        return rate(_ROWS * _BATCHES, span)

    return measure


def _check(url: str) -> None:
    """All rows must be there, in tables of the types given."""
    query = "SELECT count(*) FROM readings"
    if url.startswith("sqlite:"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            found = connection.execute(query).fetchone()
    else:
        import psycopg

        with psycopg.connect(url) as connection:
            found = connection.execute(query).fetchone()
    assert found == (_ROWS * (_BATCHES + 1),), f"{found} rows are in the table"


def _executemany(folder: Path) -> Sample:
    """Tuples that are there already, so that nothing but SQLite is measured."""
    batch = batch_of(_ROWS)
    columns = [batch.column(name).to_pylist() for name in ("id", "sensor", "temperature")]
    rows = list(zip(*columns, [str(at) for at in batch.column("at")], batch.column("status").to_pylist(), strict=True))
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(_DDL)
    with measured() as span:
        for _ in range(_BATCHES):
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO readings VALUES (?, ?, ?, ?, ?)", rows)
            connection.execute("COMMIT")
    connection.close()
    return rate(_ROWS * _BATCHES, span)


def _copy(write: Callable[[Any, Any], None]) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        import psycopg

        batch = batch_of(_ROWS)
        with _database("postgres", folder) as url, psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_DDL)
            write(connection, batch)
            with measured() as span:
                for _ in range(_BATCHES):
                    write(connection, batch)
        return rate(_ROWS * _BATCHES, span)

    return measure


def _copy_csv(connection: Any, batch: Any) -> None:
    import pyarrow.csv

    buffer = io.BytesIO()
    pyarrow.csv.write_csv(batch, buffer, pyarrow.csv.WriteOptions(include_header=False))
    with connection.cursor().copy("COPY readings FROM STDIN (FORMAT csv)") as copy:
        copy.write(buffer.getbuffer())


def _copy_binary(connection: Any, batch: Any) -> None:
    rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
    with connection.cursor().copy("COPY readings FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int8", "text", "float8", "timestamptz", "text"])
        for row in rows:
            copy.write_row(row)


def _case(name: str, what: str, measure: Callable[[Path], Sample], **more: Any) -> Case:
    kind = name.partition("-")[0]
    return Case(f"output-{name}", "output", what, "rows/s", measure, warm=_require(kind), **more)


CASES = [
    _case("sqlite", "Penstock: SQLite, 8192 rows a write", _penstock("sqlite"), reach=5e5),
    _case("sqlite-executemany", "sqlite3 executemany of ready tuples", _executemany, role="ceiling"),
    _case("postgres", "Penstock: PostgreSQL, 8192 rows a write", _penstock("postgres"), reach=6e5),
    _case("postgres-csv", "psycopg COPY of text from pyarrow.csv", _copy(_copy_csv), role="ceiling"),
    _case("postgres-binary", "psycopg binary COPY, row by row", _copy(_copy_binary), role="ceiling"),
]
