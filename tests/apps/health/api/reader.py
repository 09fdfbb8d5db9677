"""Points as the store would have written them, and the API that reads them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import httpx
from sqlalchemy import Connection, Table, delete, func, insert, literal, select

from penstock.apps.health.schema import metrics, points, quarters, routes, series, workouts
from penstock.apps.health.settings import Settings
from penstock.identifiers import new_id
from penstock.platform.database import Database

from ..inserting import insert_points
from .conftest import Served, serving

MODULES = ("reading", "domains", "exporting", "profile", "documentation")
ME, STRANGER = 1, 2
"""The ids of the users, in the order in which their keys are made."""
BEGIN = datetime(2026, 2, 3, 6, 15, tzinfo=UTC)
INGEST = new_id()


def at(minutes: float) -> datetime:
    """A time some minutes after the beginning."""
    return BEGIN + timedelta(minutes=minutes)


def _tracked(original: Any) -> dict[str, Any]:
    return {
        "original": json.dumps(original),
        "original_unit": "count",
        "offset_minutes": 60,
        "warnings": None,
        "ingest_id": INGEST,
        "updated_at": BEGIN,
    }


def point(metric: str, time: datetime, value: float | None = None, *, user: int = ME, **more: Any) -> dict[str, Any]:
    """A row of points."""
    row = {
        "user_id": user,
        "metric": metric,
        "time": time,
        "end_time": time,
        "source": "Watch",
        "kind": "",
        "ordinal": 0,
        "value": value,
        "minimum": None,
        "maximum": None,
        "unit": "count",
        "fields": None,
        **_tracked({"date": time.isoformat(), "qty": value}),
    }
    return row | more


def workout(id: str, time: datetime, name: str = "Running", *, user: int = ME, **more: Any) -> dict[str, Any]:
    """A row of workouts: half an hour."""
    row = {
        "user_id": user,
        "id": id,
        "name": name,
        "time": time,
        "end_time": time + timedelta(minutes=30),
        "source": "Watch",
        "value": 1800.0,
        "unit": "s",
        "fields": json.dumps({"distance": {"value": 5020.0, "unit": "m"}}),
        **_tracked({"id": id, "name": name}),
    }
    return row | more


def beat(parent: str, time: datetime, value: float, metric: str = "heart_rate", *, user: int = ME) -> dict[str, Any]:
    """A row of series."""
    return {
        "user_id": user,
        "parent_id": parent,
        "metric": metric,
        "time": time,
        "source": "Watch",
        "ordinal": 0,
        "value": value,
        "minimum": value - 1,
        "maximum": value + 1,
        "unit": "count/min",
        "fields": None,
        **_tracked({"qty": value}),
    }


def place(
    parent: str, time: datetime, latitude: float, longitude: float, altitude: float | None = 34.5, *, user: int = ME
) -> dict[str, Any]:
    """A row of routes."""
    return {
        "user_id": user,
        "parent_id": parent,
        "time": time,
        "ordinal": 0,
        "latitude": latitude,
        "longitude": longitude,
        "altitude": altitude,
        "fields": json.dumps({"speed": 2.5}),
        **_tracked({"latitude": latitude}),
    }


def store(database: Database, rows: Iterable[tuple[Table, Sequence[dict[str, Any]]]]) -> None:
    """Insert rows, and bring up to date what is kept besides them."""
    written = list(rows)

    def write(connection: Connection) -> None:
        for table, of in written:
            for begin in range(0, len(of), 5000):
                some = of[begin : begin + 5000]
                insert_points(connection, some) if table is points else connection.execute(insert(table), some)
        _sum_up(connection)

    database.call(write)


def _sum_up(connection: Connection) -> None:
    connection.execute(delete(metrics))
    connection.execute(delete(quarters))
    for record, table, name in (
        ("point", points, points.c.metric),
        ("series", series, series.c.metric),
        ("workout", workouts, literal("workouts")),
        ("route", routes, literal("workout_route")),
    ):
        source = table.c.source if "source" in table.c else literal("")
        unit = func.max(table.c.unit) if "unit" in table.c else literal(None)
        grouped = select(
            table.c.user_id, name, source, unit, func.count(), func.min(table.c.time), func.max(table.c.time)
        ).group_by(table.c.user_id, *(part for part in (name, source) if not hasattr(part, "value")))
        for user, metric, of, measured_in, count, first, last in connection.execute(grouped).all():
            named = f"workout_{metric}" if record == "series" and metric != "ecg_voltage" else metric
            row = {"user_id": user, "metric": named, "source": of, "record": record, "unit": measured_in}
            connection.execute(insert(metrics).values(**row, count=count, first=first, last=last))
    c = points.c
    every = connection.execute(
        select(c.user_id, c.metric, c.source, c.time, c.value, c.minimum, c.maximum).order_by(
            c.user_id, c.metric, c.source, c.time
        )
    )
    for (user, metric, source, quarter), group in groupby(every, lambda row: (*row[:3], _quarter(row.time))):
        rows = list(group)
        values = [row.value for row in rows if row.value is not None]
        row = {
            "user_id": user,
            "metric": metric,
            "source": source,
            "time": quarter,
            "count": len(rows),
            "measured": len(values),
            "sum": sum(values) if values else None,
            "minimum": min(
                (r.minimum if r.minimum is not None else r.value for r in rows if r.value is not None), default=None
            ),
            "maximum": max(
                (r.maximum if r.maximum is not None else r.value for r in rows if r.value is not None), default=None
            ),
            "first": rows[0].time,
            "last": rows[-1].time,
        }
        connection.execute(insert(quarters).values(**row))


def _quarter(time: datetime) -> datetime:
    return time.replace(minute=time.minute // 15 * 15, second=0, microsecond=0)


@dataclass
class Reader:
    """The API with a client of each user."""

    served: Served

    @property
    def database(self) -> Database:
        """Where the points are."""
        return self.served.health.database

    async def get(self, path: str, *, stranger: bool = False, **parameters: Any) -> httpx.Response:
        """Ask as the owner, or as somebody else."""
        headers = self.served.stranger if stranger else {}
        return await self.served.client.get(path, params=parameters or None, headers=headers)

    async def data(self, path: str, **parameters: Any) -> Any:
        """Ask for what must be there."""
        answer = await self.get(path, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def store(self, *rows: tuple[Table, Sequence[dict[str, Any]]]) -> None:
        """Insert rows."""
        await asyncio.to_thread(store, self.database, rows)


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[Reader]:
    """Serve the routes that read."""
    async with serving(settings, MODULES) as served:
        yield Reader(served)
