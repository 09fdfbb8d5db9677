"""Sort the rows of a delivery: to open windows, late, known from before a restart, or without a readable time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa

from ..delivery import Batch
from ._assigner import Part, Rows, WindowAssigner
from ._event_time import Unit, Unreadable, Watermark, micros
from ._open_windows import OpenWindows
from ._replay import Replay

Late: TypeAlias = Literal["drop", "route", "update"]

WARN_INTERVAL = 60.0
"""Seconds between two warnings of late rows."""
BOUND = pa.timestamp("us", "UTC")
"""The type of ``window_start`` and ``window_end``."""


@dataclass(frozen=True, slots=True)
class Windowing:
    """How event-time windows are made and fired; times in µs unless said otherwise."""

    name: str
    """The type of the buffer, for messages."""
    assigner: WindowAssigner
    column: str
    unit: Unit
    out_of_orderness: int
    idle_timeout: float | None
    """In seconds."""
    lateness: int
    late: Late
    max_rows: int
    sources: Sequence[str] = ()
    """The inputs of the stream, by the names under which their positions are kept, where it has several."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """What becomes of the rows of a delivery."""

    on_time: list[tuple[Part, Batch]] = field(default_factory=list)
    """The new rows of each part whose window is open."""
    refused: list[tuple[Batch, str]] = field(default_factory=list)
    """Rows for the error output, with the reason."""
    done: list[Batch] = field(default_factory=list)
    """Rows of which nothing more becomes."""
    late: int = 0
    """How many of the rows that are done with were dropped as late."""


class Sorter:
    """Sorts rows by the windows they lie in, and moves the watermark on."""

    def __init__(
        self, windowing: Windowing, watermark: Watermark, replay: Replay, windows: OpenWindows, log: logging.Logger
    ) -> None:
        self._windowing, self._watermark, self._replay = windowing, watermark, replay
        self._windows, self._log = windows, log
        self._warned = float("-inf")
        self.late_rows = 0
        """How many rows were dropped since their window had closed."""

    def sort(self, batch: Batch, source: str | None, first: int | None, now: float, closed: int | None) -> Sorted:
        """Sort the rows of a delivery from ``source``, whose first row has the number ``first`` there.

        ``closed`` is the end up to which windows take no more rows.
        """
        if not batch.num_rows:
            return Sorted()
        refused: list[tuple[Batch, str]] = []
        parts: list[Part] = []
        try:
            times, valid = micros(batch, self._windowing.column, self._windowing.unit)
        except Unreadable as unreadable:
            refused.append((batch, str(unreadable)))
        else:
            rows: Rows | None = None
            if valid is not None:
                bad = np.flatnonzero(~valid)
                if len(bad):
                    reason = f"no time can be read from column {self._windowing.column!r}"
                    refused.append((batch.take(pa.array(bad)), reason))
                    rows = np.flatnonzero(valid)
                    times = times[rows]
            if len(times):
                self._watermark.observe(source, int(times.max()), now)
                parts = self._windowing.assigner.divide(batch, times, rows, self._bounds(closed))
        found = self._admitted(parts, refused, source, first, closed)
        self._count_late(found.late, now)
        return found

    def _admitted(
        self,
        parts: list[Part],
        refused: list[tuple[Batch, str]],
        source: str | None,
        first: int | None,
        closed: int | None,
    ) -> Sorted:
        """Tell new rows from those that windows have already, and those on time from late ones."""
        on_time: list[tuple[Part, Batch]] = []
        done: list[Batch] = []
        last: Part | None = None
        late = 0
        merges = self._windowing.assigner.merges
        # What keeps a session open comes before what it keeps from being late.
        for part in reversed(parts) if merges else parts:
            new, known = self._unknown(part, source, first)
            if known is not None:
                done.append(known)
            if not new.num_rows:
                continue
            if self._is_open(part, last, closed):
                on_time.append((part, new))
                last = part
            elif self._windowing.late == "route":
                refused.append((new, self._late_reason(part)))
            else:
                late += new.num_rows
                done.append(new)
        if merges:
            on_time.reverse()
        return Sorted(on_time, refused, done, late)

    def _bounds(self, closed: int | None) -> list[int]:
        """Return the ends at which rows of one part would be told apart, where windows merge."""
        if not self._windowing.assigner.merges:
            return []
        return sorted({*self._replay.ends(), *(() if closed is None else (closed,))})

    def _unknown(self, part: Part, source: str | None, first: int | None) -> tuple[Batch, Batch | None]:
        """Return the rows of a part that are new, and those put before the last restart that their window has."""
        batch = part.batch
        if source is None or first is None or not self._replay.is_known(source, first):
            return batch, None
        last = self._replay.last_known(source, part.end) - first
        if isinstance(part.rows, range):
            known = max(0, min(last + 1 - part.rows.start, len(part.rows)))
            return (batch.slice(known), batch.slice(0, known)) if known else (batch, None)
        old = part.rows <= last
        return (batch.filter(pa.array(~old)), batch.filter(pa.array(old))) if old.any() else (batch, None)

    def _is_open(self, part: Part, last: Part | None, closed: int | None) -> bool:
        """Whether the window of a part takes rows; ``last`` is the part before it in this delivery that is on time."""
        if closed is None or part.end > closed or self._windows.has_joined(part):
            return True
        return last is not None and last.start < part.end and self._windowing.assigner.merges

    def _late_reason(self, part: Part) -> str:
        watermark = self._watermark.value if self._watermark.value is not None else part.end
        closed_at = iso_time(max(watermark, part.end))
        return f"late: window {iso_time(part.start)} to {iso_time(part.end)} closed at watermark {closed_at}"

    def _count_late(self, rows: int, now: float) -> None:
        self.late_rows += rows
        if rows and now - self._warned >= WARN_INTERVAL:
            self._warned = now
            self._log.warning("%s: %d rows so far came after their window closed", self._windowing.name, self.late_rows)


def iso_time(time: int) -> str:
    """Return a time in µs since 1970 as people read it."""
    return str(pa.scalar(time, BOUND).cast(pa.string()).as_py())
