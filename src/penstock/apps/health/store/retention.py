"""Let go of points that are older than the service is told to keep."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection, Table, delete, func, select, text, tuple_
from sqlalchemy.sql.expression import TableClause

from ....platform.access.audit import forget_audit
from ....platform.database import Database
from ..rows import POINT, ROUTE, SERIES
from ..schema import TRACKED, history, metrics, quarantine, quarters, stored, workouts
from ..settings import Settings
from . import partitions
from .doubt import AHEAD
from .session import lock, take_time
from .upkeep import recount

_BY_MONTH = (POINT, SERIES, ROUTE)
_DATED: dict[Table, str] = {
    workouts: "time",
    quarters: "time",
    history: "time",
    quarantine: "created_at",
}
"""The tables besides those of months in which old rows are, and the column that says how old."""
_BATCH = 10_000
"""How many rows one transaction deletes, so that nobody waits long for it."""


def apply(database: Database, settings: Settings, now: datetime) -> dict[str, int]:
    """Drop what is older than ``settings.retention_months``; return how many rows of which tables went.

    Months are kept or dropped as a whole: PostgreSQL drops their partitions. Ingests and what they counted stay, and
    so do raw bodies. Does nothing unless the settings say how many months. Raises PenstockError; what is not gone by
    then goes the next time.
    """
    if settings.retention_months is None:
        return {}
    month = _first_month(now, settings.retention_months)
    cutoff = partitions.begin_of(month)
    gone: dict[str, int] = {}
    oldest = database.call(lambda connection: connection.scalar(select(func.min(metrics.c.first))))
    for record in _BY_MONTH if oldest is not None and oldest < cutoff else ():
        table, told = stored(record, postgres=database.is_postgres), TRACKED[record].name
        if database.is_postgres:
            gone[told] = sum(database.call(_dropping(table, name)) for name in _old(database, table, month))
        gone[told] = gone.get(told, 0) + _delete(database, table, "time", cutoff)
    for table, column in _DATED.items():
        gone[table.name] = _delete(database, table, column, cutoff)
    if any(gone.get(table.name) for table in TRACKED.values()):
        for user in database.call(lambda connection: list(connection.scalars(select(metrics.c.user_id).distinct()))):
            database.call(_recounting(user, now.astimezone(UTC)), changes=True)
    return {name: count for name, count in gone.items() if count}


def apply_to_audit(access: Database, settings: Settings, now: datetime) -> int:
    """Delete rows of the audit that are older than ``settings.retention_months``; return how many."""
    if settings.retention_months is None:
        return 0
    cutoff, total = partitions.begin_of(_first_month(now, settings.retention_months)), 0
    while gone := access.call(lambda connection: forget_audit(connection, cutoff), changes=True):
        total += gone
    return total


def _first_month(now: datetime, months: int) -> int:
    """Return the first month that is kept, in months since 1970."""
    utc = now.astimezone(UTC)
    return (utc.year - 1970) * 12 + utc.month - 1 - months


def _recounting(user: int, now: datetime) -> Callable[[Connection], None]:
    def recount_user(connection: Connection) -> None:
        take_time(connection)
        lock(connection, [user])
        recount(connection, user, now + AHEAD)

    return recount_user


def _old(database: Database, table: Table, before: int) -> list[str]:
    """Return the partitions of the months before, by their names."""
    first = partitions.name_of(table, before)
    names = database.call(lambda connection: partitions.existing(connection, table))
    return sorted(name for name in names if name < first)


def _dropping(table: Table, name: str) -> Callable[[Connection], int]:
    def drop(connection: Connection) -> int:
        take_time(connection)
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": partitions.LOCK})
        if name not in partitions.existing(connection, table):
            return 0
        connection.execute(text(f"LOCK TABLE {table.name} IN ACCESS EXCLUSIVE MODE"))
        count = connection.scalar(select(func.count()).select_from(TableClause(name)))
        connection.execute(text(f'DROP TABLE "{name}"'))
        return int(count or 0)

    return drop


def _delete(database: Database, table: Table, column: str, cutoff: datetime) -> int:
    """Delete rows, some at a time."""
    keys = list(table.primary_key)
    old = select(*keys).where(table.c[column] < cutoff).limit(_BATCH)

    statement = delete(table).where(tuple_(*keys).in_(old))
    total = 0
    while gone := database.call(lambda connection: connection.execute(statement).rowcount, changes=True):
        total += gone
    return total
