"""What arrived in each hour, and how much room it takes: counted while the console runs, kept for a year."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import BigInteger, Column, Connection, DateTime, MetaData, Table, Text, delete, insert, select, update

from ...platform.database import Database

if TYPE_CHECKING:
    from ...supervision import SupervisedStream

KEPT_FOR = timedelta(days=400)
MAX_FILES = 200_000
"""How many files of the data folder are measured."""

metadata = MetaData()
arrivals = Table(
    "console_arrivals",
    metadata,
    Column("hour", DateTime(timezone=True), primary_key=True),
    Column("stream", Text, primary_key=True),
    Column("rows_in", BigInteger, nullable=False),
    Column("rows_out", BigInteger, nullable=False),
    Column("rows_refused", BigInteger, nullable=False),
)
storage = Table(
    "console_storage",
    metadata,
    Column("day", DateTime(timezone=True), primary_key=True),
    Column("place", Text, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
)


class Counts(NamedTuple):
    """Rows of a stream since the process began."""

    rows_in: int
    rows_out: int
    rows_refused: int

    def since(self, before: Counts) -> Counts:
        """Return what was added."""
        return Counts(*(now - then for now, then in zip(self, before, strict=True)))


class History:
    """Counts what the streams of this process move, hour by hour."""

    def __init__(self, database: Database, data: Path) -> None:
        self._database, self._data = database, data
        self._counted: dict[str, Counts] = {}

    async def open(self) -> None:
        """Make the tables, unless they are there."""
        await self._database.create(metadata)

    async def count(self, streams: Iterable[SupervisedStream], now: datetime) -> None:
        """Add what was moved since the last count to the hour of ``now``; nothing is lost if the database is away."""
        totals = {one.stream.id: Counts(*_moved(one)) for one in streams}
        added = {id: counts.since(self._counted.get(id, Counts(0, 0, 0))) for id, counts in totals.items()}
        hour = now.replace(minute=0, second=0, microsecond=0)

        def add(connection: Connection) -> None:
            for id, counts in added.items():
                if any(counts):
                    _add(connection, hour, id, counts)

        self._counted = totals  # before anything is awaited: whoever counts meanwhile adds what came since
        if not any(any(counts) for counts in added.values()):
            return
        try:
            await self._database.run(add, changes=True)
        except BaseException:
            for id, counts in added.items():
                self._counted[id] = self._counted[id].since(counts)
            raise

    async def measure(self, now: datetime) -> None:
        """Keep how much room each part of the data folder takes, once a day, and forget what is too old."""
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)

        def keep(connection: Connection) -> None:
            sizes = measured(self._data)
            connection.execute(delete(storage).where(storage.c.day == day))
            connection.execute(insert(storage), [{"day": day, "place": p, "bytes": b} for p, b in sizes.items()])
            connection.execute(delete(storage).where(storage.c.day < now - KEPT_FOR))
            connection.execute(delete(arrivals).where(arrivals.c.hour < now - KEPT_FOR))

        await self._database.run(keep, changes=True)

    async def read(self, since: datetime) -> dict[str, Any]:
        """Return the hours since then, the room that is taken now, and that which was taken a week ago."""

        def read(connection: Connection) -> dict[str, Any]:
            query = select(arrivals).where(arrivals.c.hour >= since).order_by(arrivals.c.hour, arrivals.c.stream)
            hours = [dict(row) | {"hour": _utc(row["hour"])} for row in connection.execute(query).mappings()]
            return {"hours": hours, "storage": self._sizes(connection)}

        return await self._database.run(read)

    def _sizes(self, connection: Connection) -> Sequence[Mapping[str, Any]]:
        first = select(storage.c.day).where(storage.c.day >= datetime.now(UTC) - timedelta(days=8))
        day = connection.scalar(first.order_by(storage.c.day).limit(1))
        rows = connection.execute(select(storage.c.place, storage.c.bytes).where(storage.c.day == day))
        before = {row.place: row.bytes for row in rows}
        since = _utc(day) if day is not None else None
        return [
            {"place": place, "bytes": size, "before": before.get(place, 0), "since": since}
            for place, size in measured(self._data).items()
        ]


def free_space(data: Path) -> int | None:
    """Return how many bytes are free where the data is; None if that cannot be told."""
    try:
        return shutil.disk_usage(data).free
    except OSError:
        return None


def measured(data: Path) -> dict[str, int]:
    """Return the bytes of each file and folder of the data folder, with what belongs to a SQLite file beside it."""
    sizes: dict[str, int] = {}
    left = MAX_FILES
    for folder, _, files in os.walk(data):
        place = Path(folder).relative_to(data).parts[:1]
        for file in files:
            if (left := left - 1) < 0:
                return sizes
            name = place[0] if place else file.removesuffix("-wal").removesuffix("-shm").removesuffix("-journal")
            try:
                sizes[name] = sizes.get(name, 0) + (Path(folder) / file).lstat().st_size
            except OSError:  # it is gone meanwhile
                continue
    return dict(sorted(sizes.items(), key=lambda one: -one[1]))


def _moved(one: SupervisedStream) -> tuple[int, int, int]:
    return one.metrics.rows_in, one.metrics.rows_out, one.metrics.refused


def _add(connection: Connection, hour: datetime, stream: str, counts: Counts) -> None:
    names = Counts._fields
    here = (arrivals.c.hour == hour) & (arrivals.c.stream == stream)
    sums = {name: arrivals.c[name] + count for name, count in zip(names, counts, strict=True)}
    if not connection.execute(update(arrivals).where(here).values(sums)).rowcount:
        row = {"hour": hour, "stream": stream, **counts._asdict()}
        connection.execute(insert(arrivals).values(row))


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
