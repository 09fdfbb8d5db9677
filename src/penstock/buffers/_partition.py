"""Divide a batch by the windows that the times of its rows lie in."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from ..delivery import Batch
from ._event_time import Micros

Rows: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a batch that lie in one window, and which rows of the batch they are."""

    end: int
    batch: Batch
    rows: Rows | range


def parted(batch: Batch, times: Micros, rows: Rows | None, length: int) -> list[Part]:
    """The parts of a batch by window, in the order of the windows; within each the rows stay in order.

    ``rows`` are the rows of the batch that ``times`` are those of; None for all.
    """
    first, last = int(times.min()) // length, int(times.max()) // length
    if first == last:
        whole = batch if rows is None else batch.take(pa.array(rows))
        return [Part((first + 1) * length, whole, range(batch.num_rows) if rows is None else rows)]
    windows = times // length
    steps = np.diff(windows)
    if (steps < 0).any():
        order = np.argsort(windows, kind="stable")
        windows = windows[order]
        rows = order if rows is None else rows[order]
        steps = np.diff(windows)
    sorted_batch = batch if rows is None else batch.take(pa.array(rows))
    bounds = [0, *(np.flatnonzero(steps) + 1).tolist(), len(windows)]
    return [
        Part(
            (int(windows[start]) + 1) * length,
            sorted_batch.slice(start, stop - start),
            range(start, stop) if rows is None else rows[start:stop],
        )
        for start, stop in pairwise(bounds)
    ]
