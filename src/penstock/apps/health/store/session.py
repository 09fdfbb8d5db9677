"""A connection that writes points: transactions, loading by columns, and what its database says otherwise."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, LiteralString

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_
from sqlalchemy import Connection, text

from ....errors import PenstockError, PermanentError
from ....platform.database import Database
from .merging import register

_SETTINGS: LiteralString = """
SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO', false), set_config('jit', 'off', false),
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END,
    CASE current_setting('lock_timeout') WHEN '0' THEN set_config('lock_timeout', '10s', false) END,
    CASE current_setting('idle_in_transaction_session_timeout') WHEN '0'
        THEN set_config('idle_in_transaction_session_timeout', '60s', false) END
"""
_USERS = 0x6865616C << 32
"""Where in the space of advisory locks those of the users are."""


class Session:
    """One connection to the database of the service, used by one call at a time."""

    def __init__(self, database: Database) -> None:
        self.database, self.is_postgres = database, database.is_postgres
        self.connection: Connection = database.connect(_SETTINGS)
        if not self.is_postgres:
            register(self._driver)
            self._driver.execute("PRAGMA temp_store = MEMORY")
            self._driver.execute("PRAGMA cache_size = -16000")

    @property
    def _driver(self) -> Any:
        return self.connection.connection.driver_connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Begin a transaction; it is durable after the block, or undone if the block raises.

        In SQLite nobody writes beside it. Raises PenstockError.
        """
        try:
            with self.connection.begin():
                yield self.connection
        except PenstockError:
            raise
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise PermanentError(f"the rows cannot be written: {error}") from error
        except Exception as error:
            raise self.database.classify_error(error) from error

    def load(self, table: str, rows: pa.RecordBatch) -> None:
        """Put rows into ``table``, whose name and columns are ours: nothing of it comes from data."""
        names = ", ".join(f'"{name}"' for name in rows.schema.names)
        if self.is_postgres:
            from pyarrow import csv

            buffer = io.BytesIO()
            printable = [_printable(values) for values in rows.columns]
            options = csv.WriteOptions(include_header=False, quoting_style="needed")
            csv.write_csv(pa.record_batch(printable, rows.schema.names), buffer, options)
            with (
                self._driver.cursor() as cursor,
                cursor.copy(f"COPY {table} ({names}) FROM STDIN (FORMAT csv)") as copy,
            ):
                copy.write(buffer.getbuffer())
            return
        marks = ", ".join("?" * rows.num_columns)
        cells = (_cells(values) for values in rows.columns)
        self._driver.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", zip(*cells, strict=True))  # noqa: S608

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def lock(connection: Connection, users: Iterable[int]) -> None:
    """Let no other transaction write points of ``users`` before this one ends.

    All take them in the same order, so that none waits for another in a circle.
    """
    if connection.dialect.name != "postgresql":  # One writer at a time: be it.
        connection.execute(text("DELETE FROM health_parts WHERE false"))
        return
    for user in sorted(set(users)):
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _USERS ^ user})


def take_time(connection: Connection) -> None:
    """Let the statements of this transaction run for as long as they need."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))


def moment(value: datetime, *, postgres: bool) -> datetime | str:
    """Return a time as a statement that is given as text takes it."""
    if postgres:
        return value
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%fZ").rjust(27, "0")


def _printable(values: pa.Array) -> pa.Array:
    return values.cast(pa.timestamp("us")) if is_.is_timestamp(values.type) else values


def _cells(values: pa.Array) -> list[Any]:
    if values.null_count == len(values):
        return [None] * len(values)
    if is_.is_timestamp(values.type):
        values = pc.binary_join_element_wise(values.cast(pa.timestamp("us")).cast(pa.string()), "Z", "")
    if is_.is_string(values.type) or values.null_count:
        return list(values.to_pylist())
    return list(values.to_numpy(zero_copy_only=False).tolist())
