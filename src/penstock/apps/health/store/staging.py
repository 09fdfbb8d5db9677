"""Parts on their way into the database: what they say of themselves, and their rows as the tables have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Table

from ....delivery import Batch
from ....errors import PermanentError
from ....metadata import without_metadata
from ..acceptance import Accepted
from ..rows import PART, POINT, ROWS
from ..schema import DAYS, TRACKED
from .doubt import is_doubtful


class Said(msgspec.Struct, frozen=True):
    """What the last row of a part says."""

    part: int
    last: bool
    received: dict[str, int]
    accepted: Accepted
    error: str | None = None
    format: str | None = None
    canonical: str | None = None


_decode = msgspec.json.Decoder(Said).decode


@dataclass(frozen=True)
class Part:
    """A part of an export: its rows without the last, and what that one says."""

    rows: pa.RecordBatch
    said: Said

    @property
    def ingest(self) -> str:
        """The id of the ingest."""
        return self.said.accepted.id

    @property
    def user(self) -> int:
        """Whose it is."""
        return self.said.accepted.user

    @property
    def attempt(self) -> int:
        """Which processing of the ingest it belongs to."""
        return self.said.accepted.attempt

    def __str__(self) -> str:
        return f"part {self.said.part} of ingest {self.ingest}, attempt {self.attempt}"


def part_of(batch: Batch) -> Part:
    """Read a batch; raises PermanentError unless it is one whole part, with all the elements that it says it has."""
    batch = without_metadata(batch)
    if not batch.schema.equals(ROWS):
        try:
            batch = batch.select(ROWS.names).cast(ROWS)
        except (KeyError, pa.ArrowException) as error:
            raise PermanentError(f"health: expected the columns of a part: {error}") from error
    is_part = pc.equal(batch.column("record"), PART)
    if not batch.num_rows or pc.sum(is_part).as_py() != 1 or not is_part[-1].as_py():
        raise PermanentError("health: expected one row `part`, as the last of its batch")
    try:
        said = _decode(batch.column("fields")[-1].as_py() or "")
    except msgspec.MsgspecError as error:
        raise PermanentError(f"health: the row `part` cannot be read: {error}") from error
    part = Part(batch.slice(0, batch.num_rows - 1), said)
    counted = {pair["values"]: pair["counts"] for pair in pc.value_counts(part.rows.column("type")).to_pylist()}
    if counted != {name: count for name, count in said.received.items() if count}:
        raise PermanentError(f"health: {part} received {said.received}, and has rows of {counted}")
    strangers = set(part.rows.column("ingest").unique().to_pylist()) - {part.ingest}
    strangers |= set(part.rows.column("user").unique().to_pylist()) - {part.user}
    if strangers:
        raise PermanentError(f"health: {part} of user {part.user} has rows of {sorted(map(str, strangers))}")
    return part


SAME, CONFIRMED, OLDER, NEWER = 1, 2, 3, 4
"""What becomes of a row whose key is there already; a row whose key is not has no verdict.

``CONFIRMED`` are the same too, but an earlier ingest of which something is still to be stored came between: they are
marked as seen by this one, so that the earlier one cannot replace them later.
"""
_SAID_AS = {"parent_id": "parent", "id": "parent", "name": "metric"}
"""Columns of the tables which rows call otherwise."""
_FILLED: Mapping[str, Any] = {"source": "", "kind": "", "ordinal": 0}
_QUARTER = 900_000_000
UNKNOWN_UNIT = "unknown_unit"
"""The warning of points that cannot be added to others."""


def keys_of(table: Table) -> list[str]:
    """Return the columns that tell the rows of a user apart."""
    return [column.name for column in table.primary_key if column.name != "user_id"]


def values_of(table: Table) -> list[str]:
    """Return the columns that are not part of the key, without those that the store itself fills."""
    ours = {"user_id", "ingest_id", "updated_at", "counted", *keys_of(table)}
    return [column.name for column in table.columns if column.name not in ours]


@dataclass(frozen=True)
class Staged:
    """Rows of one table, no two of which have the same key."""

    rows: pa.RecordBatch
    """``number``, ``type``, the columns of the table, whether the time is ``doubtful``, and of points the ``quarter``
    of an hour; of none is that of buckets of a day and longer."""
    low: datetime
    high: datetime
    """The range of their times."""
    repeated: dict[str, int]
    """By type, how many were left out because the same came again."""
    replaced: pa.RecordBatch
    """Those which another of the same key and the same part replaces, though it says something else."""
    metrics: frozenset[str]
    """Of points, which metrics they are of."""
    void: frozenset[str]
    """Of points, which metrics have some in a unit that is not known."""


def staged(record: str, rows: pa.Table, latest: datetime) -> Staged:
    """Bring rows into the shape of the table of ``record``. Of the same key the last stays.

    A time after ``latest`` cannot be right.
    """
    table = TRACKED[record]
    arrays: dict[str, pa.Array] = {"number": pa.array(np.arange(len(rows)), pa.int32())}
    for name in ["type", *keys_of(table), *values_of(table)]:
        values = rows.column(_SAID_AS.get(name, name)).combine_chunks()
        arrays[name] = values.fill_null(_FILLED[name]) if name in _FILLED and values.null_count else values
    if "end_time" in arrays:
        arrays["end_time"] = pc.coalesce(arrays["end_time"], arrays["time"])
    arrays["doubtful"] = is_doubtful(arrays["time"], latest)
    metrics: frozenset[str] = frozenset()
    void: frozenset[str] = frozenset()
    if record == POINT:
        arrays["quarter"] = _quarters(arrays["time"], arrays["period"])
        metrics = frozenset(arrays["metric"].unique().to_pylist())
        void = frozenset(_strange(arrays))
    batch = pa.RecordBatch.from_pydict(arrays)
    extremes = pc.min_max(batch.column("time"))
    last = _last_of_each([arrays[name] for name in keys_of(table)])
    earlier = np.flatnonzero(last != np.arange(len(last)))
    repeated, replaced = batch.slice(0, 0), batch.slice(0, 0)
    if len(earlier):
        losers, winners = batch.take(pa.array(earlier)), batch.take(pa.array(last[earlier]))
        same = pc.and_(_alike(losers, winners, "original"), _alike(losers, winners, "original_unit"))
        repeated, replaced = losers.filter(same), losers.filter(pc.invert(same))
        batch = batch.take(pa.array(np.flatnonzero(last == np.arange(len(last)))))
    return Staged(
        batch, extremes["min"].as_py(), extremes["max"].as_py(), counted_by_type(repeated), replaced, metrics, void
    )


def counted_by_type(rows: pa.RecordBatch | pa.Table) -> dict[str, int]:
    """Return how many rows there are of each type."""
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(rows.column("type")).to_pylist()}


def _alike(some: pa.RecordBatch, others: pa.RecordBatch, column: str) -> pa.Array:
    return pc.equal(some.column(column).fill_null("\0"), others.column(column).fill_null("\0"))


def _quarters(times: pa.Array, periods: pa.Array) -> pa.Array:
    """Return when the quarter of an hour begins in which each time is; null for buckets of a day and longer."""
    moments = times.cast(pa.int64()).to_numpy(zero_copy_only=False)
    quarters = pa.array(moments - moments % _QUARTER).cast(times.type)
    if periods.null_count == len(periods):
        return quarters
    return pc.if_else(pc.fill_null(pc.greater_equal(periods, DAYS), False), pa.scalar(None, times.type), quarters)


def _strange(arrays: dict[str, pa.Array]) -> list[str]:
    """Return which metrics have points of a unit that is not known."""
    if arrays["warnings"].null_count == len(arrays["warnings"]):
        return []
    flagged = pc.match_substring(arrays["warnings"], UNKNOWN_UNIT).fill_null(False)
    return list(arrays["metric"].filter(flagged).unique().to_pylist())


def _last_of_each(keys: list[pa.Array]) -> np.ndarray[Any, Any]:
    """Return for each row the last row that has the same key."""
    texts = [(key.cast(pa.int64()) if pa.types.is_timestamp(key.type) else key).cast(pa.string()) for key in keys]
    joined = pc.binary_join_element_wise(*texts, "\0") if len(texts) > 1 else texts[0]
    codes = joined.dictionary_encode().indices.to_numpy()
    last: np.ndarray[Any, Any] = np.zeros(codes.max() + 1 if len(codes) else 0, np.int64)
    last[codes] = np.arange(len(codes))
    each: np.ndarray[Any, Any] = last[codes]
    return each
