"""The databases of an installation, and which of their tables a caller may see."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...application import Installation
from ...clients.database import Duckdb, Mysql, Postgres, Sqlite, space
from ...outputs.sql import Sql
from ...stream import Stream
from ..access.caller import Caller
from ..access.schema import OWNER, keys, links, sessions
from ..access.scopes import OPERATOR, Scopes
from ..ownership import files_beside, rows_database
from .reader import Column, Listed, Reader

ROWS = "rows"
"""The place of the rows that people post: the schema ``public``, or the file that the others stand beside."""
SENDER = "inbox"
"""The application whose scopes are about these rows."""
MINE = "user_id"
"""The column that says whose a row is."""
HIDDEN = frozenset(str(table.name) for table in (keys, sessions, links))
"""Tables of secrets, though hashed: there are routes that show what may be seen of them."""
_INTERNAL = ("_penstock", "sqlite_", "alembic_")

_SCHEMAS = """
SELECT n.nspname FROM pg_namespace n WHERE n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'
  AND has_schema_privilege(n.oid, 'USAGE') AND EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid) ORDER BY 1
"""


@dataclass(frozen=True)
class Place:
    """A file, or a schema of PostgreSQL, and whose rows of it may be seen."""

    name: str
    where: Postgres | Sqlite | Duckdb = field(repr=False)
    schema: str = ""
    user: int | None = None
    """The only user whose rows are seen; None for all."""

    @property
    def engine(self) -> str:
        """The kind of database."""
        return self.where.type

    @property
    def file(self) -> Path | None:
        """The file, if it is one."""
        return None if isinstance(self.where, Postgres) else self.where.path

    def open(self, timeout: float) -> Reader:
        """Connect for one question; raises PenstockError."""
        if isinstance(self.where, Sqlite):
            from .sqlite import SqliteReader

            return SqliteReader(self.where.path, timeout)
        if isinstance(self.where, Duckdb):
            from .duckdb import DuckdbReader

            return DuckdbReader(self.where.path, timeout)
        from .postgres import PostgresReader

        return PostgresReader(self.where, self.schema, timeout)

    def tables(self, reader: Reader) -> list[Listed]:
        """Return the tables that may be seen."""
        return [one for one in reader.tables() if self.shows(one.name) and self.opens(reader.columns(one.name))]

    def shows(self, table: str) -> bool:
        """Tell whether a table holds data that is for people."""
        return not table.startswith(_INTERNAL) and not (self.name == OWNER and table in HIDDEN)

    def opens(self, columns: Sequence[Column]) -> bool:
        """Tell whether a table of these columns has rows that may be seen."""
        return bool(columns) and (self.user is None or any(column.name == MINE for column in columns))


def places_of(
    installation: Installation, streams: Iterable[Stream], scopes: Scopes, caller: Caller
) -> Mapping[str, Place]:
    """Return the places that ``caller`` may look into, by name; connects to PostgreSQL, so call it in a thread."""
    everything = OPERATOR.name in caller.scopes
    found = [place for place in _own(installation) if everything]
    if not everything:
        opened = _opened(scopes, caller)
        for place in _own(installation):
            application = SENDER if place.name == ROWS else place.name
            if application in opened and place.name != OWNER:
                user = caller.user if opened[application] == "own" else None
                found.append(Place(place.name, place.where, place.schema, user))
    else:
        known = {space(place.where, place.schema) for place in found}
        found += [place for place in _of_streams(streams) if space(place.where, place.schema) not in known]
    return {place.name: place for place in found}


def _own(installation: Installation) -> list[Place]:
    rows = rows_database(installation)
    if isinstance(rows, Postgres):
        with Place(ROWS, rows, "public").open(10) as reader:
            names = [name for (name,) in reader.rows(_SCHEMAS)]
        return [
            Place(ROWS, rows, "public"),
            *(Place(name, rows, name) for name in names if name not in ("public", ROWS)),
        ]
    beside = {name: file for name, file in files_beside(installation).items() if name != ROWS}
    return [Place(ROWS, rows), *(Place(name, Sqlite(path=file)) for name, file in sorted(beside.items()))]


def _opened(scopes: Scopes, caller: Caller) -> dict[str, str]:
    """Return by application how much of its tables the scopes of a caller open: ``own`` or ``all``."""
    opened: dict[str, str] = {}
    for scope in scopes.declared:
        if scope.name in caller.scopes and scope.tables != "none":
            application = scope.name.partition(".")[0]
            opened[application] = "all" if "all" in (scope.tables, opened.get(application)) else "own"
    return opened


def _of_streams(streams: Iterable[Stream]) -> list[Place]:
    """Return the databases into which the streams of a configuration write, each once."""
    found: dict[str, Place] = {}
    for stream in streams:
        for output in outputs_of(stream):
            schema = ""
            if isinstance(database := output.database(), Mysql):
                continue  # its tables are not shown
            if isinstance(database, Postgres):
                constant = output.table_name.constant or ""
                schema = constant.rpartition(".")[0] or output.schema_name or "public"
            where = space(database, schema)
            digest = hashlib.sha256(where.encode()).hexdigest()[:4]
            found.setdefault(where, Place(f"{stream.id}-{digest}", database, schema))
    return list(found.values())


def outputs_of(stream: Stream) -> Iterable[Sql]:
    """Yield the outputs and error outputs of a stream that are databases."""
    waiting: list[Any] = [stream.output, stream.error_output]
    while waiting:
        output = waiting.pop()
        if isinstance(output, Sql):
            yield output
        elif output is not None:
            waiting += [branch.output for branch in output.branches()]
