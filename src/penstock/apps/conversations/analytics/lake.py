"""The lake: an Iceberg table of what was said, to which each line is added once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, func, select, text

from ....errors import ConfigError, PermanentError
from ....platform.database import Database
from ..schema import files, lines
from .records import SCHEMA, explode
from .settings import Settings

MARK = "penstock.last-line"
"""The property of a snapshot that names the last line in it: it is written with the rows, or not at all."""
STAMP = "penstock.extracted-at"
MAX_BATCH_BYTES = 64_000_000
SNAPSHOT_TTL = timedelta(days=7)
"""How long a snapshot is kept by default."""


class Lake:
    """The table, and the catalog that it is in."""

    def __init__(self, settings: Settings) -> None:
        try:
            from pyiceberg.catalog import load_catalog
        except ImportError:
            raise ConfigError(
                "the lake needs packages that are not installed: pip install 'penstock[iceberg]'"
            ) from None
        self._namespace, self.name = settings.namespace, (settings.namespace, settings.table_name)
        self._batch_size = settings.batch_size
        warehouse = settings.warehouse_path.absolute()
        options = {"type": settings.catalog_type, "warehouse": warehouse.as_uri()}
        if settings.catalog_type == "sql":
            warehouse.mkdir(parents=True, exist_ok=True, mode=0o700)
            options["uri"] = f"sqlite:///{warehouse}/catalog.db"
        if settings.catalog_uri is not None:
            options["uri"] = settings.catalog_uri.get_secret_value()
        self._catalog: Any = load_catalog(settings.catalog_name, **options)

    def exists(self) -> bool:
        """Tell whether the table is there."""
        return bool(self._catalog.table_exists(self.name))

    def table(self) -> Any:
        """Return the table, made if it is not there yet, with a partition for each day."""
        from pyiceberg.partitioning import PartitionField, PartitionSpec
        from pyiceberg.transforms import DayTransform

        if self.exists():
            return self._catalog.load_table(self.name)
        self._catalog.create_namespace_if_not_exists(self._namespace)
        schema = _schema()
        day = PartitionField(schema.find_field("date").field_id, 1000, DayTransform(), "date_day")
        return self._catalog.create_table(self.name, schema, partition_spec=PartitionSpec(day))

    def drop(self) -> None:
        """Drop the table."""
        if self.exists():
            self._catalog.drop_table(self.name)

    def extract(self, database: Database, *, is_backfill: bool = False) -> int:
        """Add the lines that are not in the table yet, or write all of them anew; returns how many rows."""
        table = self.table()
        last, stamp = read_mark(table)
        now = max(datetime.now(UTC), stamp + timedelta(microseconds=1)) if stamp else datetime.now(UTC)
        end = database.call(_latest, changes=True)
        if is_backfill:
            return self._backfill(table, database, now, end)
        total = 0
        for batch, reached in _read(database, last, end, now, self._batch_size):
            table.append(batch, snapshot_properties={MARK: str(reached), STAMP: now.isoformat()})
            total += batch.num_rows
        return total

    def _backfill(self, table: Any, database: Database, now: datetime, end: int) -> int:
        """Write all rows anew in one commit: whoever reads has the old ones or the new ones."""
        total, properties = 0, {MARK: str(end), STAMP: now.isoformat()}
        with table.transaction() as transaction:
            if table.current_snapshot() is not None:
                transaction.delete("true", snapshot_properties=properties)
            for batch, _ in _read(database, 0, end, now, self._batch_size):
                transaction.append(batch, snapshot_properties=properties)
                total += batch.num_rows
        return total

    def read(self, after: datetime | None = None, as_of: int | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows that were extracted after a time; ``as_of`` is an older snapshot."""
        from pyiceberg.expressions import AlwaysTrue

        condition = AlwaysTrue() if after is None else f"extracted_at > '{after.isoformat()}'"
        yield from self.table().scan(row_filter=condition, snapshot_id=as_of).to_arrow_batch_reader()

    def compact(self) -> int:
        """Write the rows of many small files into few, day by day; returns how many files there were."""
        table = self.table()
        before = len(table.inspect.files())
        last, stamp = read_mark(table)
        if before > 1 and stamp is not None:
            properties = {MARK: str(last), STAMP: stamp.isoformat()}
            table.overwrite(table.scan().to_arrow(), snapshot_properties=properties)
        return before

    def expire(self, older_than: timedelta = SNAPSHOT_TTL) -> int:
        """Forget snapshots that are older, but for the latest one; returns how many."""
        table = self.table()
        before = len(table.snapshots())
        table.maintenance.expire_snapshots().older_than(datetime.now(UTC) - older_than).commit()
        return before - len(self.table().snapshots())

    def find_snapshot(self, given: str) -> int:
        """Return the id of the snapshot that a text names: an id, or a time at which it was the latest."""
        table = self.table()
        try:
            if given.isascii() and given.isdigit():
                found = table.snapshot_by_id(int(given))
            else:
                at = datetime.fromisoformat(given)
                at = at if at.tzinfo else at.replace(tzinfo=UTC)
                found = table.snapshot_as_of_timestamp(int(at.timestamp() * 1000))
        except ValueError:
            expected = "the id of a snapshot or a time such as 2026-03-01T12:00"
            raise ConfigError(f"expected {expected}, not {given!r}") from None
        if found is None:
            raise PermanentError(f"the lake has no snapshot of {given}")
        return int(found.snapshot_id)


def read_mark(table: Any) -> tuple[int, datetime | None]:
    """Return the last line in the table, and when it was extracted."""
    snapshot = table.current_snapshot()
    properties = snapshot.summary.additional_properties if snapshot is not None and snapshot.summary else {}
    stamp = properties.get(STAMP)
    return int(properties.get(MARK, 0)), datetime.fromisoformat(stamp) if stamp else None


def _schema() -> Any:
    from pyiceberg.schema import Schema
    from pyiceberg.types import DateType, NestedField, StringType, TimestamptzType

    kinds: dict[Any, Any] = {pa.string(): StringType(), pa.date32(): DateType()}
    fields = (
        NestedField(number, field.name, kinds.get(field.type, TimestamptzType()), required=not field.nullable)
        for number, field in enumerate(SCHEMA, 1)
    )
    return Schema(*fields)


def _latest(connection: Connection) -> int:
    """Return the last line behind which none can appear: PostgreSQL may commit a later number first."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE conversations_lines IN SHARE MODE"))
    return connection.scalar(select(func.max(lines.c.id))) or 0


def _read(database: Database, last: int, end: int, now: datetime, batch_size: int) -> Iterator[tuple[pa.Table, int]]:
    """Yield the rows of the lines behind ``last``, each time with the line that they reach."""
    waiting: list[dict[str, Any]] = []
    size, is_more = 0, True
    while is_more:
        found = _lines(database, last, end, batch_size)
        is_more = bool(found)
        for row in found:
            waiting.extend(explode(row, now))
            size += len(row.line)
            last = row.id
        if waiting and (size > MAX_BATCH_BYTES or not is_more):
            yield pa.Table.from_pylist(waiting, SCHEMA), last
            waiting, size = [], 0


def _lines(database: Database, last: int, end: int, limit: int) -> list[Any]:
    of = (lines.c[name] for name in ("id", "session", "kind", "at", "read_at", "line"))
    joined = lines.join(files, files.c.id == lines.c.file_id)
    found = select(*of, files.c.project, files.c.path).select_from(joined)
    behind = found.where(lines.c.id > last, lines.c.id <= end).order_by(lines.c.id).limit(limit)
    return database.call(lambda connection: list(connection.execute(behind)))
