"""Put points into the table where a database keeps them, past the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, insert

from penstock.apps.health import compact
from penstock.apps.health.rows import ROWS
from penstock.apps.health.schema import points
from penstock.apps.health.store.compacting import compacted

_TYPES: dict[str, pa.DataType] = {field.name: field.type for field in ROWS} | {
    "ingest_id": pa.string(),
    "counted": pa.float64(),
}


def insert_points(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert points, the user of each among its columns."""
    if connection.dialect.name != "postgresql":
        connection.execute(insert(points), [dict(row) for row in rows])
        return
    names = [column.name for column in points.columns if column.name not in ("user_id", "updated_at")]
    schema = pa.schema([(name, _TYPES[name]) for name in names])
    for user, own in groupby(rows, lambda row: int(row["user_id"])):
        batch = pa.RecordBatch.from_pylist([{name: row.get(name) for name in names} for row in own], schema)
        connection.execute(insert(compact.points), compacted(connection, user, batch).to_pylist())
