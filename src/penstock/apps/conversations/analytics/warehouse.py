"""The warehouse: a DuckDB file that is built anew beside the one in use, and then takes its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import select

from ....errors import PermanentError
from ....platform.database import Database
from ..prices import Prices, Tokens, cost
from ..reading.usage import read_responses
from ..schema import calls
from .lake import Lake
from .records import SCHEMA
from .settings import Settings

_TABLES = """
CREATE SCHEMA IF NOT EXISTS raw;
CREATE TABLE IF NOT EXISTS raw.conversations (
    _id VARCHAR NOT NULL, type VARCHAR, session_id VARCHAR, project_id VARCHAR, timestamp TIMESTAMPTZ,
    ingested_at TIMESTAMPTZ, extracted_at TIMESTAMPTZ, message_role VARCHAR, message_content VARCHAR,
    message_raw VARCHAR, source_file VARCHAR, date DATE, tool_name VARCHAR, tool_id VARCHAR, tool_use_id VARCHAR
);
CREATE TABLE IF NOT EXISTS raw.changed_sessions (session_id VARCHAR);
"""
_TIME = pa.timestamp("us", "UTC")
_RESPONSES = pa.schema([
    ("response_key", pa.string()), ("session_id", pa.string()), ("project_id", pa.string()), ("responded_at", _TIME),
    ("model", pa.string()), ("is_sidechain", pa.bool_()), ("input_tokens", pa.int64()), ("output_tokens", pa.int64()),
    ("cache_write_tokens", pa.int64()), ("cache_read_tokens", pa.int64()), ("cost_usd", pa.float64()),
    ("cache_saved_usd", pa.float64()),
])  # fmt: skip
_CALLS = pa.schema([
    ("call_id", pa.string()), ("session_id", pa.string()), ("tool_name", pa.string()), ("called_at", _TIME),
    ("ended_at", _TIME), ("is_error", pa.bool_()), ("file_path", pa.string()), ("lines_added", pa.int64()),
    ("lines_removed", pa.int64()),
])  # fmt: skip


@contextmanager
def building(settings: Settings, *, is_new: bool = False) -> Iterator[Any]:
    """Yield a connection to a copy of the warehouse, which takes its place if nothing goes wrong.

    Who reads the old file keeps it until it is opened again, and never meets a lock.
    """
    import duckdb

    with replacing(settings, is_new=is_new) as copy:
        config: dict[str, Any] = {"threads": settings.duckdb_threads, "enable_external_access": False}
        with duckdb.connect(str(copy), config=config) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(_TABLES)
            yield connection
            connection.execute("CHECKPOINT")


@contextmanager
def replacing(settings: Settings, *, is_new: bool = False) -> Iterator[Path]:
    """Yield the path of a copy of the warehouse, which takes its place if nothing goes wrong."""
    path = settings.duckdb_path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    copy = path.with_name(f".{path.name}.{os.getpid()}.new")
    _remove(copy)
    try:
        if path.exists() and not is_new:
            shutil.copyfile(path, copy)
        yield copy
        copy.chmod(0o600)
        os.replace(copy, path)
    finally:
        _remove(copy)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.wal").unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove the copies of processes that were killed."""
    for left in path.parent.glob(f".{path.name}.*.new*"):
        pid = left.name.removeprefix(f".{path.name}.").partition(".")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            left.unlink(missing_ok=True)


def load(connection: Any, lake: Lake, database: Database, prices: Prices, as_of: int | None = None) -> int:
    """Take over what the lake has and the warehouse has not, and responses and calls; returns how many rows."""
    [(latest,)] = connection.execute("SELECT max(extracted_at) FROM raw.conversations").fetchall()
    connection.execute("BEGIN")
    if as_of is not None:
        connection.execute("DELETE FROM raw.conversations")
    total = 0
    for batch in lake.read(None if as_of is not None else latest, as_of):
        if batch.num_rows:
            _add(connection, pa.Table.from_batches([batch]).select(SCHEMA.names))
            total += batch.num_rows
    _replace(connection, "responses", _responses(database, prices))
    _replace(connection, "calls", _calls(database))
    connection.execute("COMMIT")
    return total


def _add(connection: Any, arrived: pa.Table) -> None:
    connection.register("arrived", arrived)
    connection.execute("DELETE FROM raw.conversations WHERE _id IN (SELECT _id FROM arrived)")
    connection.execute("INSERT INTO raw.conversations SELECT * FROM arrived")
    sessions = "SELECT DISTINCT coalesce(session_id, 'unknown') FROM arrived"
    connection.execute(f"INSERT INTO raw.changed_sessions {sessions}")
    connection.unregister("arrived")


def _replace(connection: Any, name: str, table: pa.Table) -> None:
    connection.register("arrived", table)
    connection.execute(f"CREATE OR REPLACE TABLE raw.{name} AS SELECT * FROM arrived")  # names of ours
    connection.unregister("arrived")


def _responses(database: Database, prices: Prices) -> pa.Table:
    """Return each response of a model once, with what it cost and what the cache has saved."""

    def read(connection: Any) -> list[dict[str, Any]]:
        return [_priced(number, one, prices) for number, one in enumerate(read_responses(connection))]

    return pa.Table.from_pylist(database.call(read), _RESPONSES)


def _priced(number: int, one: Any, prices: Prices) -> dict[str, Any]:
    tokens, price = one.tokens, prices.find(one.model, one.at)
    spent, saved = one.cost_usd, None
    if price is not None:
        spent = cost(price, tokens) if spent is None else spent
        saved = cost(price, Tokens(input=tokens.cache_read)) - cost(price, Tokens(cache_read=tokens.cache_read))
    return {
        "response_key": str(number), "session_id": one.session, "project_id": one.project, "responded_at": one.at,
        "model": one.model, "is_sidechain": one.is_sidechain, "input_tokens": tokens.input,
        "output_tokens": tokens.output, "cache_write_tokens": tokens.cache_write_5m + tokens.cache_write_1h,
        "cache_read_tokens": tokens.cache_read, "cost_usd": spent, "cache_saved_usd": saved,
    }  # fmt: skip


def _calls(database: Database) -> pa.Table:
    names = ("id", "session", "name", "called_at", "ended_at", "is_error", "path", "added", "removed")

    def read(connection: Any) -> list[dict[str, Any]]:
        found = connection.execution_options(yield_per=10_000).execute(select(*(calls.c[name] for name in names)))
        return [dict(zip(_CALLS.names, row, strict=True)) for row in found]

    return pa.Table.from_pylist(database.call(read), _CALLS)


@contextmanager
def reading(settings: Settings) -> Iterator[Any]:
    """Yield a connection that can only read the warehouse; raises PermanentError if there is none yet."""
    import duckdb

    if not settings.duckdb_path.exists():
        raise PermanentError("there is no warehouse yet: `penstock conversations pipeline` builds it")
    config: dict[str, Any] = {"threads": settings.duckdb_threads, "enable_external_access": False}
    with duckdb.connect(str(settings.duckdb_path), read_only=True, config=config) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def describe(connection: Any) -> dict[str, Any]:
    """Return how many rows the warehouse has, from when to when, and of which projects and types."""
    span = "SELECT count(*), min(timestamp), max(timestamp) FROM raw.conversations"
    [(rows, first, last)] = connection.execute(span).fetchall()
    by_project = "SELECT project_id, count(*) FROM raw.conversations GROUP BY 1 ORDER BY 2 DESC LIMIT 10"
    by_type = "SELECT type, count(*) FROM raw.conversations GROUP BY 1 ORDER BY 2 DESC LIMIT 100"
    first_at, last_at = (one.isoformat() if isinstance(one, datetime) else None for one in (first, last))
    projects, types = (dict(connection.execute(query).fetchall()) for query in (by_project, by_type))
    return {"rows": rows, "first_at": first_at, "last_at": last_at, "projects": projects, "types": types}
