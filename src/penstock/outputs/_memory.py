"""Which rows of a failed write have arrived, for outputs whose writes may succeed in part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from ..delivery import Batch

Row = TypeVar("Row", bound=Hashable)
"""A row on its way; equal rows are the same to the server."""


class ArrivalMemory(Generic[Row]):
    """Knows which rows of a failed write arrived, so that its repetitions do not send them again.

    The stream repeats a write that failed for a while with the very same batches, and one that was refused in halves
    or without some of its rows. Any other write is a new one, before which all is forgotten.
    """

    def __init__(self) -> None:
        self._awaited: Counter[Row] = Counter()
        self._arrived: Counter[Row] = Counter()
        self._batches: Sequence[Batch] | None = None
        """What the next write must consist of; None if any of the awaited rows may come."""

    @property
    def is_waiting(self) -> bool:
        """Whether a repetition of a failed write is to come."""
        return bool(self._awaited)

    def __bool__(self) -> bool:
        """Whether rows of a failed write have arrived."""
        return bool(self._arrived)

    def left(self, batches: Sequence[Batch], rows: dict[int, Row]) -> dict[int, Row]:
        """Return the rows that have not arrived."""
        if not self._awaited:
            return rows
        if Counter(rows.values()) - self._awaited or not self._may_follow(batches):
            self._awaited, self._arrived = Counter(), Counter()
            return rows
        arrived, left = self._arrived.copy(), {}
        for index, row in rows.items():
            if arrived[row] > 0:
                arrived[row] -= 1
            else:
                left[index] = row
        return left

    def _may_follow(self, batches: Sequence[Batch]) -> bool:
        """Whether ``batches`` may repeat the failed write; equal rows in others are rows of their own."""
        return self._batches is None or (
            len(batches) == len(self._batches)
            and all(one is other for one, other in zip(batches, self._batches, strict=True))
        )

    def expect(self, batches: Sequence[Batch] | None) -> None:
        """Take only a write of the very ``batches`` for the repetition; None for one of any of their rows."""
        self._batches = batches

    def settle(self, rows: dict[int, Row], left: dict[int, Row], unsent: dict[int, Row]) -> None:
        """Note a write of ``rows``: ``left`` were to be sent, and ``unsent`` of these were not."""
        if unsent:
            self._awaited = self._awaited or Counter(rows.values())
            self._arrived += Counter(row for index, row in left.items() if index not in unsent)
        elif self._awaited:
            self._awaited -= Counter(rows.values())
            self._arrived -= Counter(row for index, row in rows.items() if index not in left)
