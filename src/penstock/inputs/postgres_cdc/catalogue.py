"""What the database knows: publication, tables, types and the slot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, LiteralString, NamedTuple, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from ...clients import postgres
from ...clients.database import Postgres
from ...errors import ConnectionLost, PenstockError, PermanentError
from ..sql.source import quoted
from .values import TEXT, Column, Kind, kind_of

T = TypeVar("T")
SETTINGS: LiteralString = (
    "SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO', false), "
    "set_config('IntervalStyle', 'iso_8601', false), set_config('bytea_output', 'hex', false), "
    "set_config('extra_float_digits', '1', false), set_config('statement_timeout', '0', false), "
    "set_config('idle_in_transaction_session_timeout', '0', false), set_config('client_encoding', 'UTF8', false)"
)
"""How values are printed, in the snapshot as in the stream."""
_BUILT_IN = {
    16: "bool",
    17: "bytea",
    18: "char",
    19: "name",
    20: "int8",
    21: "int2",
    23: "int4",
    25: "text",
    26: "oid",
    114: "json",
    700: "float4",
    701: "float8",
    1042: "bpchar",
    1043: "varchar",
    1082: "date",
    1083: "time",
    1114: "timestamp",
    1184: "timestamptz",
    1186: "interval",
    1700: "numeric",
    2950: "uuid",
    3802: "jsonb",
}
_TYPE = (
    "SELECT t.typname::text, t.typtype::text, t.typbasetype::int8, t.typtypmod, t.typelem::int8, "
    "EXISTS (SELECT FROM pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid) FROM pg_type t WHERE t.oid = %s"
)
_WITHOUT_IDENTITY = (
    "SELECT c.oid::regclass::text FROM pg_class c WHERE c.oid = ANY(%s::regclass[]) AND c.relkind = 'r' AND "
    "(c.relreplident = 'n' OR c.relreplident = 'd' AND "
    "NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))"
)
_COLUMNS = (
    "SELECT attname::text, atttypid::int8, atttypmod FROM pg_attribute WHERE attrelid = %s::regclass "
    "AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"
)


class Table(NamedTuple):
    """A table that is published."""

    schema: str
    name: str
    is_partitioned: bool = False
    """Whether its rows are in partitions, which are not read by themselves."""
    columns: Sequence[str] | None = None
    """The only columns that are; None for all."""
    condition: str | None = None
    """The condition that its published rows fulfil, in SQL."""

    @property
    def quoted(self) -> str:
        """Its name as it stands in a statement."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"


class SlotState(NamedTuple):
    """A replication slot as the server sees it."""

    plugin: str
    database: str
    is_active: bool
    confirmed: int
    """The position up to which changes are confirmed."""
    kept: int
    """Bytes of WAL that it keeps at the server."""
    current: int
    """Where the server writes now."""
    status: str
    """What becomes of that WAL: `reserved`, `extended`, `unreserved` or `lost`."""


class Catalogue:
    """Asks the database over a connection of its own, which is opened when it is needed."""

    def __init__(self, database: Postgres) -> None:
        self._database = database
        self._connection: postgres.Connection | None = None
        self._kinds: dict[tuple[int, int], Kind] = {}

    def interrupt(self) -> None:
        """Make a call that another thread waits for fail."""
        if self._connection is not None:
            self._connection.is_interrupted = True

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def connection(self) -> postgres.Connection:
        """The connection."""
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._database)
        return self._connection

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """Run a statement, which commits, and return its rows; raises what the database raises."""
        cursor = self.connection.execute(_sql(statement), values or None)
        return cursor.fetchall() if cursor.description else []

    def check_settings(self) -> None:
        """Raise PermanentError if the server does not decode changes."""
        ((level, encoding),) = self.rows("SELECT current_setting('wal_level'), current_setting('server_encoding')")
        if level != "logical":
            raise PermanentError(
                f"postgres: the server has `wal_level = {level}`; expected `logical`: "
                "ALTER SYSTEM SET wal_level = 'logical', then restart it"
            )
        if encoding == "SQL_ASCII":
            raise PermanentError("postgres: the database has the encoding SQL_ASCII: its texts may be in any encoding")

    def publish(self, publication: str, tables: Sequence[str]) -> None:
        """Make the publication unless it is there; raises PermanentError if it lacks one of the tables."""
        if not self.rows("SELECT 1 FROM pg_publication WHERE pubname = %s", publication):
            if not tables:
                raise PermanentError(
                    f"postgres: there is no publication {publication!r}: expected `tables`, for which it is made, or "
                    f"CREATE PUBLICATION {quoted(publication)} FOR TABLE ..."
                )
            self._make_publication(publication, tables)
            return
        published = {(schema, name) for schema, name in self.rows(_PUBLISHED, publication)}
        for table in tables:
            ((schema, name),) = self.rows(_NAME, table)
            if (schema, name) not in published:
                raise PermanentError(
                    f"postgres: the publication {publication!r} lacks the table {table}, whose rows would be missing: "
                    f"ALTER PUBLICATION {quoted(publication)} ADD TABLE {table}; what it holds already is not read then"
                )

    def _make_publication(self, publication: str, tables: Sequence[str]) -> None:
        named = [Table(*row).quoted for table in tables for row in self.rows(_NAME, table)]
        if without := self.rows(_WITHOUT_IDENTITY, named):
            names = ", ".join(name for (name,) in without)
            raise PermanentError(
                f"postgres: {names}: without a primary key the server would refuse to update and delete rows once they "
                f"are published: expected a primary key, or ALTER TABLE {without[0][0]} REPLICA IDENTITY FULL"
            )
        with suppress(psycopg.errors.DuplicateObject):  # another has just made it
            self.rows(
                f"CREATE PUBLICATION {quoted(publication)} FOR TABLE {', '.join(named)} "
                "WITH (publish_via_partition_root = true)"
            )

    def published(self, publication: str) -> list[Table]:
        """Return the tables that are published, in the order of their names."""
        ((version,),) = self.rows("SELECT current_setting('server_version_num')::int4")
        more = "p.attnames::text[], p.rowfilter" if version >= 150000 else "NULL, NULL"
        found = self.rows(
            f"SELECT p.schemaname::text, p.tablename::text, c.relkind = 'p', {more} "  # noqa: S608
            "FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname "
            "JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename WHERE p.pubname = %s ORDER BY 1, 2",
            publication,
        )
        return [Table(*row) for row in found]

    def columns(self, table: Table) -> list[Column]:
        """Return the published columns of a table, in their order."""
        found = self.rows(_COLUMNS, table.quoted)
        names = None if table.columns is None else set(table.columns)
        return [
            Column(name, self.kind(oid, modifier), is_key=False)
            for name, oid, modifier in found
            if names is None or name in names
        ]

    def kind(self, oid: int, modifier: int) -> Kind:
        """Return a type by its number; one that is gone, or that Arrow has not, is text."""
        if oid in _BUILT_IN:
            return kind_of(_BUILT_IN[oid], modifier)
        if (oid, modifier) not in self._kinds:
            self._kinds[oid, modifier] = self._find_kind(oid, modifier)
        return self._kinds[oid, modifier]

    def _find_kind(self, oid: int, modifier: int) -> Kind:
        for name, type_of_type, base, base_modifier, element, is_array in self.rows(_TYPE, oid):
            if type_of_type == "d":
                return self.kind(base, base_modifier)
            if is_array:
                return Kind(self.kind(element, modifier).name, TEXT, is_array=True)
            return kind_of(name, modifier)
        return Kind("unknown", TEXT)

    def slot(self, name: str) -> SlotState | None:
        """Return the state of a slot; None if there is none."""
        for row in self.rows(_SLOT, name):
            return SlotState(*row)
        return None

    def drop_slot(self, name: str) -> None:
        """Drop a slot; raises what the database raises if somebody reads it."""
        self.rows("SELECT pg_drop_replication_slot(%s)", name)


_PUBLISHED = "SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = %s"
_NAME = (
    "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.oid = %s::regclass"
)
_SLOT = (
    "SELECT plugin::text, database::text, active, coalesce(confirmed_flush_lsn - '0/0', 0)::int8, "
    "coalesce(pg_current_wal_lsn() - restart_lsn, 0)::int8, (pg_current_wal_lsn() - '0/0')::int8, "
    "coalesce(wal_status, 'lost') FROM pg_replication_slots WHERE slot_name = %s"
)


def connect(database: Postgres, **settings: str) -> postgres.Connection:
    """Open a connection on which each statement is a transaction of its own."""
    connection = postgres.Connection.connect(
        make_conninfo(postgres.conninfo(database), **settings), autocommit=True, prepare_threshold=None
    )
    try:
        connection.execute(SETTINGS)
    except BaseException:
        connection.close()
        raise
    return connection


def _sql(statement: str) -> LiteralString:
    """Every name that is added to a statement is quoted, every value bound."""
    return statement


def classifying(database: Postgres, call: Callable[[], T], *, has_worked: bool) -> T:
    """Return what ``call`` returns; raises its errors as those of the engine.

    Once it has worked, what is wrong with the server or a permission is waited for: somebody changed it.
    """
    try:
        return call()
    except PenstockError:
        raise
    except Exception as error:
        found = postgres.classify_error(error, database, opening=True)
        if has_worked and isinstance(found, PermanentError):
            raise ConnectionLost(str(found)) from error
        raise found from error
