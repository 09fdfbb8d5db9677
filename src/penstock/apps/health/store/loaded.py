"""Points of a metric as they are stored, and by columns, to be counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from ..aggregation import canonical_unit
from ..overlap import DAY, UNKNOWN, Points
from .doubt import received_at

SECOND, MINUTE = 1_000_000, 60_000_000
COLUMNS = (
    *("source", "kind", "ordinal", "value", "unit", "period", "offset_minutes", "ingest_id", "counted"),
    *("minimum", "maximum"),
)


class LoadedPoints(NamedTuple):
    """Points of a metric as they are stored, and by columns."""

    keys: list[tuple[Any, ...]]
    """As the database tells and takes them: time, end_time, source, kind, ordinal."""
    points: Points
    sources: list[str]
    kinds: list[str]
    unit: str | None
    """That of the metric; of one that is not known, that of its points."""
    void: np.ndarray[Any, np.dtype[np.bool_]]
    """Which have another unit, and cannot be added to the others."""
    counted: np.ndarray[Any, np.dtype[np.float64]]
    fields: list[str | None]
    extremes: list[tuple[float | None, float | None]]


def points_of(metric: str, found: list[tuple[Any, ...]]) -> LoadedPoints:
    """Return rows of the table by columns."""
    columns: list[Any] = list(zip(*found, strict=True)) or [()] * (4 + len(COLUMNS))
    starts, ends = (all_micros(column) for column in columns[:2])
    source, kind, ordinal, value, unit, period, offset, ingest, counted, low, high, strange, fields = columns[2:]
    sources = sorted(set(source))
    place = {name: number for number, name in enumerate(sources)}
    received = {one: _received(one) for one in set(ingest)}
    periods = np.array([each or 0 for each in period], np.int64) * SECOND
    lasting = (ends > starts) & ((ends - starts <= DAY) | (periods > 0))
    points = Points(
        start=starts,
        end=np.where(lasting, ends, starts),
        value=np.array(value, np.float64),
        period=periods,
        source=np.array([place[name] for name in source], np.int64),
        offset=np.array([UNKNOWN if each is None else each * MINUTE for each in offset], np.int64),
        received=np.array([received[one] for one in ingest], np.int64),
    )
    void = np.array([bool(each) for each in strange], np.bool_)
    said = canonical_unit(metric) or next(filter(None, unit), None)
    shares = np.array([1.0 if each is None else each for each in counted], np.float64)
    keys = list(zip(columns[0], columns[1], source, kind, ordinal, strict=True))
    return LoadedPoints(
        keys, points, sources, list(kind), said, void, shares, list(fields), list(zip(low, high, strict=True))
    )


def all_micros(column: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return times, as the database tells them, in microseconds since 1970."""
    if column and isinstance(column[0], str):
        return np.array([each[:26] for each in column], "datetime64[us]").astype(np.int64)
    return np.array(column, np.int64)


def _received(ingest: Any) -> int:
    at = received_at(str(ingest))
    return micros_of(at) if at is not None else 0


def micros_of(at: datetime) -> int:
    """Return a time in microseconds since 1970."""
    return (at - datetime_of(0)) // timedelta(microseconds=1)


def datetime_of(micros: int) -> datetime:
    """Return the time of so many microseconds since 1970."""
    return datetime.fromisoformat("1970-01-01T00:00:00+00:00") + timedelta(microseconds=micros)


def move(at: datetime, by: timedelta) -> datetime:
    """Return an earlier or later time; where there is none, the same."""
    try:
        return at + by
    except OverflowError:
        return at


def end_of(rows: LoadedPoints, row: int) -> int:
    """Return when a point ends, in microseconds since 1970."""
    told = rows.keys[row][1]
    return int(all_micros([told])[0])
