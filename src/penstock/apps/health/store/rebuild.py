"""Forget all that is made of raw bodies, so that it can be made again."""

from __future__ import annotations

from sqlalchemy import Connection, Table, delete, select, text

from .. import compact
from ..schema import TRACKED, history, ingests, metrics, of_user, quarantine, quarters, stored
from . import accounting
from .session import lock, take_time


def forget(connection: Connection, user: int | None = None) -> None:
    """Empty the tables of points, their history, sums, parts and quarantine, of one user or of all.

    The ingests stay, with nothing stored of them. Processing their raw bodies again, in the order of their ids, gives
    the same tables.
    """
    users = [user] if user is not None else list(connection.scalars(select(ingests.c.user_id).distinct()))
    lock(connection, users)
    take_time(connection)
    postgres = connection.dialect.name == "postgresql"
    kept = [stored(record, postgres=postgres) for record in TRACKED]
    tables: tuple[Table, ...] = (*kept, history, quarters, metrics, quarantine)
    if user is None and postgres:
        texts = compact.metadata.sorted_tables
        connection.execute(text(f"TRUNCATE {', '.join(table.name for table in {*tables, *texts})}"))
        tables = ()
    for table in tables:
        connection.execute(delete(table).where(of_user(table, user)) if user is not None else delete(table))
    if user is not None:
        compact.forget_unused(connection, user)
    accounting.forget(connection, user)
