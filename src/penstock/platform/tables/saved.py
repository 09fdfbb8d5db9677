"""Queries that people keep under a name, each user their own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from ...errors import PermanentError
from ...identifiers import new_id
from ..access.schema import queries

MAX_SAVED = 500
"""How many queries a user keeps."""
MAX_SQL_SIZE = 50_000
"""Characters of a query."""


class Saved(msgspec.Struct):
    """A query under a name."""

    id: str
    name: str
    place: str
    sql: str
    updated_at: datetime


class ToSave(msgspec.Struct, forbid_unknown_fields=True):
    """A query to keep."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    sql: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SQL_SIZE)]
    place: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "rows"


_SHOWN = [queries.c[name] for name in ("id", "name", "place", "sql", "updated_at")]


def listed(connection: Connection, user: int) -> list[dict[str, Any]]:
    """Return the queries of a user, by name."""
    query = select(*_SHOWN).where(queries.c.user_id == user).order_by(func.lower(queries.c.name), queries.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def save(connection: Connection, user: int, wanted: ToSave) -> dict[str, Any]:
    """Keep a query, in place of that user's of the same name; raises PermanentError if there are too many."""
    row = {"sql": wanted.sql, "place": wanted.place, "updated_at": datetime.now(UTC)}
    same = (queries.c.user_id == user) & (queries.c.name == wanted.name)
    if not connection.execute(update(queries).where(same).values(row)).rowcount:
        count = connection.scalar(select(func.count()).where(queries.c.user_id == user)) or 0
        if count >= MAX_SAVED:
            raise PermanentError(f"{MAX_SAVED} queries are kept at most; delete one")
        connection.execute(insert(queries).values(id=new_id(), user_id=user, name=wanted.name, **row))
    return dict(connection.execute(select(*_SHOWN).where(same)).mappings().one())


def forget(connection: Connection, user: int, id: str) -> bool:
    """Delete a query of a user; return whether it was there."""
    mine = (queries.c.user_id == user) & (queries.c.id == id)
    return bool(connection.execute(delete(queries).where(mine)).rowcount)
