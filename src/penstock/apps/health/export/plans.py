"""Which slices a body is cut into: what each is, and how the elements of a list are grouped into them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from .structure import Malformed

MAX_ELEMENTS = 3072
MAX_BYTES = 1_000_000
"""How much is in a slice at most, unless a single element has more."""
MAX_CUTS = 100_000
"""How many slices a body may have."""


class Facts(msgspec.Struct):
    """What is said beside a list, before or after it."""

    values: dict[str, Any] = {}

    def text(self, *names: str) -> str | None:
        """Return the first of the facts that is a text."""
        return next((self.values[name] for name in names if isinstance(self.values.get(name), str)), None)


class Cut(msgspec.Struct):
    """Where a slice is."""

    section: str
    path: str
    start: int
    end: int
    first: int = 0
    count: int = 1
    name: str | None = None
    about: Facts | None = None
    """Of a metric: its name and units."""
    parent: Facts | None = None
    parent_index: int | None = None
    holes: list[tuple[str, int, int]] = []
    """Lists of an element that are slices of their own: their key, and from where to where they are."""
    reason: str | None = None


class Plan(msgspec.Struct):
    """All slices of a body, in the order in which they end."""

    cuts: list[Cut] = []
    format: str | None = None

    def add(self, cut: Cut) -> None:
        """Note a slice; raises Malformed if there are too many."""
        if len(self.cuts) >= MAX_CUTS:
            raise Malformed(f"expected at most {MAX_CUTS} lists in a body")
        self.cuts.append(cut)


class Boundaries:
    """Groups the elements of a list, or the lines of a text, into slices, whatever windows they are found in."""

    def __init__(self, start: int, most_elements: int | None = None, most_bytes: int | None = None) -> None:
        self.start, self.first = start, 0
        self._elements, self._bytes = most_elements or MAX_ELEMENTS, most_bytes or MAX_BYTES
        self._ends = np.empty(0, np.int64)

    def found(self, ends: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Note where further elements end."""
        self._ends = np.concatenate((self._ends, ends)) if len(self._ends) else ends

    def groups(self, seen: int, closed: bool) -> Iterator[tuple[int, int, int, int]]:
        """Yield start, end, first and count of each group that is certain, given the text up to ``seen``."""
        while len(self._ends):
            fitting = int(np.searchsorted(self._ends, self.start + self._bytes, "right"))
            count = min(max(fitting, 1), self._elements)
            certain = closed or count < len(self._ends) or count == self._elements or seen > self.start + self._bytes
            if not certain:
                return
            count = min(count, len(self._ends))
            end = int(self._ends[count - 1])
            start, first = self.start, self.first
            self._ends = self._ends[count:]
            self.start, self.first = end + 1, first + count
            yield start, end, first, count

    @property
    def last(self) -> int:
        """The last of the ends that are in no group yet."""
        return int(self._ends[-1])

    @property
    def pending(self) -> bool:
        """Whether an end is known that is in no group yet."""
        return len(self._ends) > 0
