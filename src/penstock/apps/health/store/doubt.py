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
AHEAD = timedelta(days=1)
"""How far ahead of ours the clock of a phone may be, and the local time of one that says no offset."""
NO_TIME = (datetime(1969, 12, 31, 10, tzinfo=UTC), datetime(1970, 1, 1, 14, tzinfo=UTC))
"""From when to when, in the zones of the world, the time 0 is that stands where none was known."""


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
    out = pc.or_(pc.less(times, bounds[0]), pc.greater(times, bounds[1]))
    none = pa.scalar(NO_TIME[0], TIME), pa.scalar(NO_TIME[1], TIME)
    return pc.or_(out, pc.and_(pc.greater_equal(times, none[0]), pc.less_equal(times, none[1])))


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
        message = (
            f"{times[row]:%Y-%m-%d} cannot be right: expected a time from 1900 on that has been, and none of 1970-01-01"
        )
        known = msgspec.json.decode(warnings[row]) if warnings[row] else []
        warnings[row] = msgspec.json.encode(_with(known, message)).decode()
    return rows.set_column(place, rows.schema.field(place), pa.array(warnings, pa.string()))


def _with(known: Iterable[dict[str, str]], message: str) -> list[dict[str, str]]:
    return [*known, {"message": message, "warning": "suspicious_time"}]
