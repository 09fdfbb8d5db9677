"""Decide which windows rows lie in, apart from when windows fire and how they survive a crash."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from ..delivery import Batch
from ._event_time import Micros

Rows: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a batch that lie in one window, and their numbers in the batch."""

    start: int
    end: int
    batch: Batch
    rows: Rows | range


class WindowAssigner(ABC):
    """Divides batches among windows; all times are in µs since 1970 UTC."""

    merges = False
    """Whether windows that overlap become one, as sessions do."""

    @abstractmethod
    def divide(self, batch: Batch, times: Micros, rows: Rows | None, bounds: Sequence[int]) -> list[Part]:
        """Return the parts of a batch by window, in the order of their ends; rows stay in order within each.

        ``times`` are those of ``rows``, numbers of rows of the batch; None stands for all rows. Where windows merge,
        no part holds rows whose own windows end on both sides of one of ``bounds``, which ascend.
        """

    @abstractmethod
    def last_end(self, watermark: int) -> int:
        """Return the latest end a window can have that is over at ``watermark``."""


class Groups(NamedTuple):
    """A batch whose rows are sorted by group, and the numbers that the groups and the rows have."""

    batch: Batch
    numbers: Micros
    rows: Rows | None
    """The numbers of the rows before they were sorted; None where they are as they were."""
    bounds: list[int]
    """Where each group begins, and the end of the last."""

    def slice(self, start: int, stop: int) -> tuple[Batch, Rows | range]:
        """Return some rows and their numbers."""
        return (
            self.batch.slice(start, stop - start),
            range(start, stop) if self.rows is None else self.rows[start:stop],
        )


def grouped(batch: Batch, numbers: Micros, rows: Rows | None) -> Groups:
    """Sort a batch by the group that each of ``rows`` is in; rows of a group stay in order."""
    steps = np.diff(numbers)
    if (steps < 0).any():
        order = np.argsort(numbers, kind="stable")
        numbers = numbers[order]
        steps = np.diff(numbers)
        rows = order if rows is None else rows[order]
    bounds = [0, *(np.flatnonzero(steps) + 1).tolist(), len(numbers)]
    return Groups(batch if rows is None else batch.take(pa.array(rows)), numbers, rows, bounds)
