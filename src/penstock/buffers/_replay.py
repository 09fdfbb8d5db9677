"""Tell rows that are read again after a restart from new ones, by their number in their source.

A window that was written must not be written again with what happens to be read again of it. So the position of
a window buffer says how many rows of each source had been put when a window fired, and rows up to that number
are known to be in it. The number of a row is how many rows its source has put up to it. It is counted here and
not taken from what was read, since one payload may have become several rows, or none; and it is saved with the
position of the source, since what is read again may be cut otherwise than before, and be stopped again at any cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from ..checkpoint import Checkpoint, CheckpointStore
from ..delivery import Delivery


class Fired(TypedDict):
    """The position of a window buffer: what had fired, and what was read when it did."""

    closed: int | None
    watermark: Any
    furthest: dict[str, tuple[int, int]]
    marks: list[tuple[int, dict[str, int]]]


class Replay:
    """Numbers the rows of each source across restarts, and knows which of them are in windows already."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._put: dict[str, int] = {}
        """The number of the last row of each source."""
        self._furthest: dict[str, tuple[int, int]] = {}
        """How many rows of each source were ever read, and put: less is read again after a restart."""
        self._marks: list[tuple[int, dict[str, int]]] = []
        self._highest: dict[str, int] = {}
        self.awaited: dict[str, int] = {}
        """Sources that are reading rows again, each with the number of the last row they had read."""

    async def resume(self, position: Fired) -> None:
        """Go on from a position that ``position`` has returned."""
        for key, (read, furthest) in position["furthest"].items():
            read_before, put = await self._saved(key)
            if read_before >= read:  # by more than it counted, if the stream went without windows for a while
                put = max(put, furthest)
            self._put[key], self._furthest[key] = put, (read, furthest)
            if put < furthest:
                self.awaited[key] = furthest
        self._marks = [(end, dict(seen)) for end, seen in position["marks"]]
        self._note_highest()

    async def _saved(self, key: str) -> tuple[int, int]:
        """How many rows had been read, and put, where reading begins again."""
        saved = await self._store.load(key) or {}
        return int(saved.get("rows", 0)), int(saved.get("put", 0))

    def _note_highest(self) -> None:
        self._highest = {}
        for _, seen in self._marks:
            for key, put in seen.items():
                self._highest[key] = max(put, self._highest.get(key, 0))

    async def number(self, delivery: Delivery) -> tuple[str | None, int | None]:
        """Count the rows of a delivery; returns its source and the number of its first row, where it has one."""
        trackers = {id(loan.tracker): loan.tracker for loan in delivery.loans}
        tracker = next(iter(trackers.values()), None)
        if tracker is None or len(trackers) != 1:
            return None, None
        key = tracker.key
        if isinstance(tracker, Checkpoint) and not tracker.counts:
            return key, None
        before = self._put.get(key)
        if before is None:
            _, before = await self._saved(key)
        put = self._put[key] = before + delivery.batch.num_rows
        loan = delivery.loans[-1]
        loan.put = put
        read, furthest = self._furthest.get(key, (0, 0))
        # Amid a loan that reads further than before the restart, less may be put than was put before.
        self._furthest[key] = max(read, loan.rows_end), max(furthest, put)
        if put >= self.awaited.get(key, put + 1):
            del self.awaited[key]
        return key, before + 1

    def ends(self) -> list[int]:
        """Return the ends of windows up to which rows may be known."""
        return [end for end, _ in self._marks]

    def is_known(self, source: str | None, first: int | None) -> bool:
        """Tell whether rows from number ``first`` on may be in a window already."""
        return source is not None and first is not None and first <= self._highest.get(source, 0)

    def last_known(self, source: str, end: int) -> int:
        """Return the number up to which rows of the window ending at ``end`` are in it already."""
        return max((seen.get(source, 0) for until, seen in self._marks if end <= until), default=0)

    def mark(self, end: int) -> None:
        """Note that every row put so far, of windows up to ``end``, is in its window."""
        seen = dict(self._put)
        self._marks = [(until, old) for until, old in self._marks if until > end or not _covers(seen, old)]
        self._marks.append((end, seen))
        self._note_highest()

    def position(self) -> dict[str, Any]:
        """Return what is to be saved, so that ``resume`` can go on from it.

        It says how far each source was ever read, even where a stop comes amid reading again: the watermark has
        passed windows that still miss what was not reached.
        """
        return {
            "marks": [[end, seen] for end, seen in self._marks],
            "furthest": {key: [*pair] for key, pair in self._furthest.items()},
        }


def _covers(seen: Mapping[str, int], old: Mapping[str, int]) -> bool:
    return all(seen.get(key, -1) >= put for key, put in old.items())
