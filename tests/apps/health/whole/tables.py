"""What is in the tables, whichever database has them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import psycopg

from penstock.apps.health.schema import TRACKED, metrics, quarters

from .service import Service

Dump = dict[str, list[tuple[Any, ...]]]
_UNSTEADY = {"updated_at"}


def query(service: Service, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    if service.database_url.startswith("postgresql"):
        with psycopg.connect(service.database_url) as connection:
            connection.execute("SET search_path = health, public")
            return connection.execute(sql.encode()).fetchall()
    with closing(sqlite3.connect(service.data / "penstock-health.db")) as connection:
        return connection.execute(sql).fetchall()


def dump(service: Service) -> Dump:
    """Return all that is made of raw bodies, but for when it was written."""
    found = {}
    for table in (*TRACKED.values(), quarters, metrics):
        columns = ", ".join(f'"{column.name}"' for column in table.columns if column.name not in _UNSTEADY)
        keys = ", ".join(f'"{column.name}"' for column in table.primary_key)
        found[table.name] = query(service, f"SELECT {columns} FROM {table.name} ORDER BY {keys}")
    columns = "user_id, record, metric, time, key, original, ingest_id, replaced_by"
    found["health_history"] = query(service, f"SELECT {columns} FROM health_history ORDER BY {columns}")
    return found


def number_of_points(service: Service, user: str | None = None) -> int:
    """Return how many rows there are in the tables of points, of one user or of all."""
    whose = f"WHERE user_id = {service.user_ids[user]}" if user else ""
    counts = [query(service, f"SELECT count(*) FROM {table.name} {whose}") for table in TRACKED.values()]
    return sum(rows[0][0] for rows in counts)
