"""Validation of times: dates that are well-formed and cannot be right are kept and flagged."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..acceptance import Accepted
from ..rows import TIME

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=2)
"""How far ahead of ours the clock of a phone may be."""


def received_at(ingest: str) -> datetime | None:
    """Return when an id was made, which is a UUID of version 7; None for another."""
    made = UUID(ingest)
    try:
        return datetime.fromtimestamp((made.int >> 80) / 1000, UTC) if made.version == 7 else None
    except (ValueError, OverflowError, OSError):
        return None


def latest(accepted: Accepted) -> datetime:
    """Return the last time that what was accepted can speak of."""
    return max(accepted.received_at, received_at(accepted.id) or accepted.received_at) + AHEAD


def is_doubtful(times: pa.Array, last: datetime) -> pa.Array:
    """Tell which times cannot be right; null where a time is missing."""
    bounds = pa.scalar(EARLIEST, TIME), pa.scalar(last, TIME)
    return pc.or_(pc.less(times, bounds[0]), pc.greater(times, bounds[1]))


def flag(rows: pa.Table, last: datetime) -> pa.Table:
    """Add a warning to rows whose time cannot be right."""
    doubtful = pc.or_kleene(is_doubtful(rows.column("time"), last), is_doubtful(rows.column("end_time"), last))
    found = np.flatnonzero(doubtful.fill_null(False).to_numpy(zero_copy_only=False))
    if not len(found):
        return rows
    place = rows.schema.get_field_index("warnings")
    warnings = rows.column("warnings").to_pylist()
    times = rows.column("time").to_pylist()
    for row in found.tolist():
        message = f"{times[row]:%Y-%m-%d} cannot be right: expected a time from 1900 on that has been"
        known = msgspec.json.decode(warnings[row]) if warnings[row] else []
        warnings[row] = msgspec.json.encode(_with(known, message)).decode()
    return rows.set_column(place, rows.schema.field(place), pa.array(warnings, pa.string()))


def _with(known: Iterable[dict[str, str]], message: str) -> list[dict[str, str]]:
    return [*known, {"message": message, "warning": "suspicious_time"}]
