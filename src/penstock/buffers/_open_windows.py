"""Keep the windows that take rows, and know which of them is to fire next."""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..delivery import Delivery
from ._assigner import Part


@dataclass(slots=True)
class Window:
    """The deliveries of one span of time, each with its number in the order of arrival."""

    start: int
    end: int
    held: list[tuple[int, Delivery]] = field(default_factory=list)
    rows: int = 0
    on_disk: int = 0
    """How many of the rows are not in memory."""
    changed: bool = False
    """Whether rows came since it last fired."""

    def deliveries(self) -> list[Delivery]:
        """Return what it holds in the order of arrival."""
        return [delivery for _, delivery in self.held]


class OpenWindows:
    """Windows by their ends, which are all different: of one length, or merged where they overlap."""

    def __init__(self, *, merging: bool) -> None:
        self._merging = merging
        self._by_end: dict[int, Window] = {}
        self._ends: list[int] = []
        self._to_fire: list[int] = []
        """A heap of ends; those of windows that have gone or merged since are passed over."""
        self._taken = 0
        self.rows = 0
        """How many rows all windows hold; a row counts once for each window it is in."""
        self.on_disk = 0
        """How many of them are not in memory."""

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._ends))

    def has_joined(self, part: Part) -> bool:
        """Tell whether the part lies in a window that is open and that would merge with it."""
        return self._merging and any(True for _ in self._overlapping(part))

    def take(self, part: Part, delivery: Delivery) -> None:
        """Hold ``delivery``, the rows of ``part``, in its window."""
        window = self._merged(part) if self._merging else self._by_end.get(part.end)
        if window is None:
            window = Window(part.start, part.end)
            self._add(window)
        if not window.changed:
            window.changed = True
            heapq.heappush(self._to_fire, window.end)
        window.held.append((self._taken, delivery))
        self._taken += 1
        window.rows += delivery.batch.num_rows
        self.rows += delivery.batch.num_rows

    def _merged(self, part: Part) -> Window | None:
        """Make one window of all that the part overlaps; None where it overlaps nothing."""
        found = [self._by_end[end] for end in self._overlapping(part)]
        if not found:
            return None
        start, end = min(part.start, found[0].start), max(part.end, found[-1].end)
        if len(found) == 1 and end == found[0].end:
            found[0].start = start
            return found[0]
        merged = Window(start, end)
        merged.rows, merged.on_disk = (
            sum(numbers) for numbers in zip(*((one.rows, one.on_disk) for one in found), strict=True)
        )
        merged.held = list(heapq.merge(*(window.held for window in found), key=lambda held: held[0]))
        for window in found:
            self._drop(window.end)
        self._add(merged)
        return merged

    def _overlapping(self, part: Part) -> Iterator[int]:
        for index in range(bisect_right(self._ends, part.start), len(self._ends)):
            if self._by_end[self._ends[index]].start >= part.end:
                return
            yield self._ends[index]

    def _add(self, window: Window) -> None:
        self._by_end[window.end] = window
        insort(self._ends, window.end)

    def _drop(self, end: int) -> Window:
        self._ends.pop(bisect_right(self._ends, end) - 1)
        return self._by_end.pop(end)

    def next_end(self) -> int | None:
        """Return the end of the window that fires next; None where no window has anything new."""
        while self._to_fire:
            window = self._by_end.get(self._to_fire[0])
            if window is not None and window.changed:
                return window.end
            heapq.heappop(self._to_fire)
        return None

    def last_end(self) -> int | None:
        """Return the end of the last open window."""
        return self._ends[-1] if self._ends else None

    def get(self, end: int) -> Window:
        """Return an open window."""
        return self._by_end[end]

    def first_until(self, time: int) -> int | None:
        """Return the end of the first window, where it is not after ``time``."""
        return self._ends[0] if self._ends and self._ends[0] <= time else None

    def remove(self, end: int) -> Window:
        """Take a window out: it holds no more rows."""
        window = self._drop(end)
        self.rows -= window.rows
        self.on_disk -= window.on_disk
        return window

    def chosen_to_spill(self, limit: int) -> dict[int, Delivery]:
        """Return deliveries in memory by number, of the windows that fire last, so that ``limit`` rows are left."""
        found: dict[int, Delivery] = {}
        over = self.rows - self.on_disk - limit
        for end in reversed(self._ends):
            for number, delivery in self._by_end[end].held:
                if over <= 0:
                    return found
                if delivery.batch.num_rows:
                    found[number] = delivery
                    over -= delivery.batch.num_rows
        return found

    def note_spilled(self, spilled: Mapping[int, Delivery]) -> set[int]:
        """Let go of the rows of deliveries that were written to disk; returns the numbers of those still held."""
        found = set()
        for window in self._by_end.values():
            for number, delivery in window.held:
                if number in spilled:
                    rows = delivery.batch.num_rows
                    window.on_disk += rows
                    self.on_disk += rows
                    delivery.batch = delivery.batch.slice(0, 0)
                    found.add(number)
        return found
