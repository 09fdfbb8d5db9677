"""Parts of exports, made without the parser."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa

from penstock.apps.health.acceptance import Accepted
from penstock.apps.health.rows import ROWS
from penstock.identifiers import new_id

NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def accepted(user: int = 1, *, id: str | None = None, body: str = "", attempt: int = 1) -> Accepted:
    """Return an ingest; without a ``body`` it has bytes of its own."""
    id = id or new_id()
    sha256 = hashlib.sha256((body or id).encode()).hexdigest()
    return Accepted(
        id=id, user=user, received_at=NOON, raw=f"raw/{id}", bytes=len(body), sha256=sha256, attempt=attempt
    )


def point(
    value: float | None = 61.0,
    time: datetime = NOON,
    metric: str = "heart_rate",
    source: str = "Watch",
    **more: Any,
) -> dict[str, Any]:
    """Return a point as the parser makes it."""
    original = json.dumps({"date": str(time), "qty": value, **more.get("fields", {})}, sort_keys=True)
    if "fields" in more:
        more["fields"] = json.dumps(more["fields"])
    return {
        "record": "point",
        "type": metric,
        "metric": metric,
        "time": time,
        "end_time": time,
        "source": source,
        "kind": "",
        "ordinal": 0,
        "value": value,
        "unit": "count/min",
        "original": original,
        "original_unit": "bpm",
        "offset_minutes": 60,
        **more,
    }


def workout(id: str = "A", time: datetime = NOON, name: str = "Running", duration: float = 1800.0) -> dict[str, Any]:
    """Return a workout."""
    return point(
        duration,
        time,
        record="workout",
        type="workouts",
        metric=name,
        parent=id,
        end_time=time + timedelta(seconds=duration),
        unit="s",
    ) | {"type": "workouts", "metric": name}


def series(value: float = 120.0, time: datetime = NOON, parent: str = "A") -> dict[str, Any]:
    """Return a point of the heart rate of a workout."""
    return point(value, time) | {"record": "series", "type": "workout_heart_rate", "parent": parent, "kind": None}


def place(latitude: float, longitude: float, time: datetime = NOON, parent: str = "A") -> dict[str, Any]:
    """Return a point of the route of a workout."""
    return {
        "record": "route",
        "type": "workout_route",
        "time": time,
        "ordinal": 0,
        "parent": parent,
        "latitude": latitude,
        "longitude": longitude,
        "altitude": 34.5,
        "original": json.dumps({"latitude": latitude, "longitude": longitude, "timestamp": str(time)}),
    }


def refused(reason: str = "no date", index: int = 0, type: str = "heart_rate") -> dict[str, Any]:
    """Return a point that cannot be stored."""
    return {
        "record": "quarantined",
        "type": type,
        "index": index,
        "reason": reason,
        "payload": '{"qty": 1}',
        "path": f"data.metrics[0].data[{index}]",
    }


def part(
    of: Accepted,
    rows: Iterable[Mapping[str, Any]] = (),
    *,
    number: int = 0,
    last: bool = True,
    received: Mapping[str, int] | None = None,
    error: str | None = None,
) -> pa.RecordBatch:
    """Return a part of the ingest ``of``."""
    own = [{"ingest": of.id, "user": of.user, "index": index, **row} for index, row in enumerate(rows)]
    counted = received if received is not None else dict(Counter(row["type"] for row in own))
    return pa.RecordBatch.from_pylist([*own, _said(of, number, last, counted, error)], schema=ROWS)


def _said(of: Accepted, number: int, last: bool, received: Mapping[str, int], error: str | None) -> dict[str, Any]:
    said = {"part": number, "last": last, "received": received, "accepted": of, "error": error, "format": "v2"}
    text = msgspec.json.encode({**said, "canonical": None}).decode()
    return {"record": "part", "ingest": of.id, "user": of.user, "fields": text}


def many(
    of: Accepted,
    count: int,
    *,
    start: datetime = NOON,
    step: timedelta = MINUTE,
    metric: str = "heart_rate",
    source: str = "Watch",
    offset: float = 0.0,
    size: int = 8192,
) -> list[pa.RecordBatch]:
    """Return the parts of an ingest of ``count`` points of one metric, made by columns."""
    parts = []
    numbers = max(1, -(-count // size))
    for number in range(numbers):
        first = number * size
        rows = min(size, count - first)
        begin = int(start.timestamp() * 1e6)
        micros = [begin + int(step.total_seconds() * 1e6) * (first + row) for row in range(rows)]
        times = pa.array(micros, pa.int64()).cast(pa.timestamp("us", "UTC"))
        values = pa.array([offset + (first + row) % 97 for row in range(rows)], pa.float64())
        texts = pa.compute.binary_join_element_wise(
            '{"date":"',
            times.cast(pa.timestamp("s")).cast(pa.string()),
            ' +0100","qty":',
            values.cast(pa.string()),
            "}",
            "",
        )
        constants = {
            "record": "point",
            "ingest": of.id,
            "type": metric,
            "metric": metric,
            "source": source,
            "kind": "",
            "unit": "count/min",
            "original_unit": "bpm",
        }
        columns: dict[str, Any] = {name: pa.array([value] * rows) for name, value in constants.items()}
        columns |= {"time": times, "end_time": times, "value": values, "original": texts}
        columns |= {
            "user": pa.array([of.user] * rows, pa.int64()),
            "index": pa.array(range(first, first + rows), pa.int64()),
            "ordinal": pa.array([0] * rows, pa.int32()),
            "offset_minutes": pa.array([60] * rows, pa.int32()),
        }
        arrays = [columns.get(field.name, pa.nulls(rows, field.type)) for field in ROWS]
        body = pa.RecordBatch.from_arrays(arrays, schema=ROWS)
        end = pa.RecordBatch.from_pylist([_said(of, number, number == numbers - 1, {metric: rows}, None)], schema=ROWS)
        parts.append(pa.concat_batches([body, end]) if rows else end)
    return parts


def stable_id(number: int) -> str:
    """Return an id that is greater for greater numbers, and the same in each run."""
    return str(uuid.UUID(int=0x019000000000 << 80 | 7 << 76 | 2 << 62 | number))
