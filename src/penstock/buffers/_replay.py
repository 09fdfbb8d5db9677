"""Tell rows that are read again after a restart from new ones, by their number in their source.

A window that was written must not be written again with what happens to be read again of it. So the position of
a window buffer says how many rows of each source had been put when a window fired, and rows up to that number
are known to be in it. The number of a row is how many rows its source has put up to it. It is counted here and
not taken from the loans, since one payload may have become several rows, or none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..checkpoint import Checkpoint, CheckpointStore
from ..delivery import Delivery, Loan

_PRUNE_AT = 256


@dataclass(slots=True)
class _Bound:
    """After ``loan`` the source had read ``read`` rows, of which came ``put``."""

    loan: Loan | None
    read: int
    put: int


@dataclass(slots=True)
class _Source:
    bounds: list[_Bound]
    prune_at: int = _PRUNE_AT

    @property
    def put(self) -> int:
        """The number of the last row."""
        return self.bounds[-1].put

    def add(self, loan: Loan, rows: int) -> None:
        """Count ``rows`` more rows, of ``loan``; of a stretch where each row read is one put, keep the ends."""
        put = self.put + rows
        last = self.bounds[-1]
        if last.loan is loan:
            last.put = put
            return
        bound = _Bound(loan, loan.rows_end, put)
        if len(self.bounds) > 1 and _alike(_pair(self.bounds[-2]), _pair(last)) and _alike(_pair(last), _pair(bound)):
            self.bounds.pop()
        self.bounds.append(bound)

    def prune(self, read: int) -> None:
        """Forget what lies before ``read``, from where reading would begin again."""
        index = bisect_right(self.bounds, read, key=lambda bound: bound.read) - 1
        self.bounds = self.bounds[max(index, 0) :]
        self.prune_at = max(_PRUNE_AT, 2 * len(self.bounds))


def _pair(bound: _Bound) -> tuple[int, int]:
    return bound.read, bound.put


def _alike(one: Sequence[int], other: Sequence[int]) -> bool:
    return other[0] - one[0] == other[1] - one[1]


def put_when(read: int, bounds: Sequence[Sequence[int]]) -> int | None:
    """How many rows had been put when ``read`` rows had been read; None if that is not known any more."""
    index = bisect_right(bounds, read, key=lambda bound: bound[0]) - 1
    if index < 0:
        return None
    at = bounds[index]
    if index + 1 < len(bounds) and _alike(at, bounds[index + 1]):
        return at[1] + read - at[0]
    return at[1]


class Replay:
    """Numbers the rows of each source across restarts, and knows which of them are in windows already."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._sources: dict[str, _Source] = {}
        self._marks: list[tuple[int, dict[str, int]]] = []
        self._highest: dict[str, int] = {}
        self.awaited: dict[str, int] = {}
        """Sources that are reading rows again, each with the number of the last row they had read."""

    async def resume(self, position: Mapping[str, Any]) -> None:
        """Go on from a position that ``position`` has returned."""
        for key, bounds in position["bounds"].items():
            read = await self._read(key)
            put = put_when(read, bounds)
            if put is None:
                continue  # read from before where it ever was: its rows are not known any more
            self._sources[key] = _Source([_Bound(None, read, put)])
            if put < bounds[-1][1]:
                self.awaited[key] = bounds[-1][1]
        self._marks = [
            (end, {key: put for key, put in seen.items() if key in self._sources}) for end, seen in position["marks"]
        ]
        self._note_highest()

    async def _read(self, key: str) -> int:
        saved = await self._store.load(key)
        return int(saved.get("rows", 0)) if saved is not None else 0

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
        source = self._sources.get(key)
        if source is None:
            source = self._sources.setdefault(key, _Source([_Bound(None, await self._read(key), 0)]))
        elif len(source.bounds) > source.prune_at:
            source.prune(await self._read(key))
        first = source.put + 1
        source.add(delivery.loans[-1], delivery.batch.num_rows)
        if source.put >= self.awaited.get(key, source.put + 1):
            del self.awaited[key]
        return key, first

    def is_known(self, source: str | None, first: int | None) -> bool:
        """Whether rows from number ``first`` on may be in a window already."""
        return source is not None and first is not None and first <= self._highest.get(source, 0)

    def last_known(self, source: str, end: int) -> int:
        """The number up to which rows of the window ending at ``end`` are in it already."""
        return max((seen.get(source, 0) for until, seen in self._marks if end <= until), default=0)

    def mark(self, end: int) -> None:
        """Note that every row put so far, of windows up to ``end``, is in its window."""
        seen = {key: source.put for key, source in self._sources.items()}
        self._marks = [(until, old) for until, old in self._marks if until > end or not _covers(seen, old)]
        self._marks.append((end, seen))
        self._note_highest()

    def position(self) -> dict[str, Any]:
        """What is to be saved, so that ``resume`` can go on from it."""
        return {
            "marks": [[end, seen] for end, seen in self._marks],
            "bounds": {key: [[*_pair(bound)] for bound in source.bounds] for key, source in self._sources.items()},
        }


def _covers(seen: Mapping[str, int], old: Mapping[str, int]) -> bool:
    return all(seen.get(key, -1) >= put for key, put in old.items())
