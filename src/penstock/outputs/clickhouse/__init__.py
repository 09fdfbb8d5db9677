"""Write rows to tables of ClickHouse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field, SecretStr, field_validator, model_validator

from ...clients.clickhouse import Connection
from ...clients.deadline import Deadline, connect
from ...clients.http import Url, check_credentials, check_tls
from ...clients.tls import Tls
from ...component import Output, Writer
from ...context import Context
from ...duration import Duration
from ...errors import ConnectionLost, PenstockError
from ...runtime.threads import OwnThread
from ...sql.expression import Expr
from ..sql.parts import Target
from .session import ClickhouseSession
from .writer import ClickhouseWriter


class Clickhouse(Output, type="clickhouse"):
    """Write rows to tables of ClickHouse, as Arrow over HTTP.

    Each write is one insert for each table (and, where rows lack fields that have a default, for each set of fields),
    which the server has stored when it is confirmed, with `async_insert` too. An insert whose answer was lost is sent
    again with the deduplication token that it had, so that nothing is there twice, as long as the table remembers
    tokens: those made here do, replicated ones do, another MergeTree does with `non_replicated_deduplication_window`.
    What is read again after a crash is written again: with `key` the later row takes its place.

    Tables and columns are made from the rows, unless `create` is false: a MergeTree, or with `key` a
    ReplacingMergeTree ordered by it, whose older rows go when parts are merged (`SELECT ... FINAL` does not see them).
    A row replaces the whole older one. Columns made here take nulls, except those of the key. Whole numbers are Int64
    or UInt64, fractions Float64, timestamps DateTime64 in UTC, dates Date32, times Time64, durations an Interval,
    decimals Decimal, text and bytes String; lists, structs and maps are JSON in a String. Into an existing Array, Tuple
    or Map they go as they are, and text into an Enum, UUID, IPv4, Int256 or JSON.

    A row that does not fit is refused with its own reason, and nothing else: another type, a value out of bounds, a
    null in a column that takes none, an unknown element of an Enum, a constraint. Nothing is wrapped around, cut off or
    replaced by a default. Times that are finer than their column are cut.

    Example::

        type: clickhouse
        url: http://127.0.0.1:8123
        username: default
        password: not-a-secret
        table_name: readings
        key: [sensor, time]
    """

    url: Url
    """Where the server's HTTP interface is; `https://` for TLS."""
    username: str = "default"
    """The user."""
    password: SecretStr = SecretStr("")
    """The password of the user."""
    database: str = Field("default", min_length=1)
    """The database of tables whose names say none."""
    table_name: Expr
    """The table, as in `readings` or `sensors.readings`, or an expression that gives it for each row."""
    key: list[str] = []
    """The columns that tell rows apart: a row takes the place of the one with the same key. Without it, rows add up."""
    create: bool = True
    """Make missing tables and columns; otherwise rows that need a column are refused, and a table is waited for."""
    engine: str | None = None
    """The engine of tables that are made, with its arguments, as in `ReplicatedMergeTree`."""
    async_insert: bool = False
    """Let the server gather inserts of many writers before it stores and confirms them."""
    settings: dict[str, str] = {}
    """Settings of ClickHouse that hold for inserts."""
    tls: Tls | None = None
    """How to know the server by TLS."""
    timeout: Duration = Field(60.0, gt=0)
    """How long the server may be at work on one write; then it is sent again."""

    @field_validator("settings", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        words = {True: "1", False: "0"}
        if not isinstance(value, dict):
            return value
        return {name: words[each] if isinstance(each, bool) else str(each) for name, each in value.items()}

    @model_validator(mode="after")
    def _check(self) -> Clickhouse:
        check_credentials(self.url, None, {})
        check_tls(self.url, self.tls)
        for text in (self.username, self.password.get_secret_value()):
            if not text.isascii() or not (text.isprintable() or not text):
                raise ValueError("expected a `username` and a `password` of printable ASCII characters")
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Connect; raises ConnectionLost if the server does not answer or does not let us in."""
        payloads = self.payloads if self.codec is not None else None
        target = Target(self.table_name, tuple(self.key), self.create, payloads)
        gathered = {"async_insert": "1", "wait_for_async_insert": "1", "async_insert_deduplicate": "1"}
        settings = {**self.settings, **(gathered if self.async_insert else {"async_insert": "0"})}
        async with OwnThread(f"{context.name}-clickhouse") as thread:
            connection = await connect(thread, Connection, self.url, self.username, self.password, self.tls)
            session = ClickhouseSession(connection, self.database, self.engine, settings)
            try:
                async with Deadline(thread, session.interrupt, self.timeout, context.clock) as calls:
                    try:
                        await calls.run(connection.call, "SELECT 1")
                    except PenstockError as error:
                        raise ConnectionLost(str(error)) from error
                    yield ClickhouseWriter(session, calls, target)
            finally:
                await thread.run(session.close)
