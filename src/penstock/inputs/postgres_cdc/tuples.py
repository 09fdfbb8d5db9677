"""Rows as they come over the wire, read column by column, all rows at once."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

PADDING = bytes(8)
"""What is to follow the data, since lengths are looked at where there may be none."""
NULL, TEXT, UNCHANGED = b"nt" + b"u"
_SHORT = 48
"""Up to so many bytes in the middle, values are gathered byte by byte."""


class Cells(NamedTuple):
    """The values of one column: of which kind each is, where it begins and how long it is."""

    kinds: Bytes
    begin: Numbers
    size: Numbers


def number_at(data: Bytes, positions: Numbers, size: int) -> Numbers:
    """Return the big-endian number of ``size`` bytes at each position."""
    found = np.zeros(len(positions), np.int64)
    for byte in range(size):
        found = found << 8 | data[positions + byte]
    return found


def walk(data: Bytes, starts: Numbers, columns: int) -> tuple[list[Cells], Numbers]:
    """Return the cells of each column of the tuples that begin at ``starts``, and where each tuple ends."""
    position, cells = starts + 2, []  # behind the number of columns
    for _ in range(columns):
        kinds = data[position]
        is_text = kinds == TEXT
        size = np.where(is_text, number_at(data, position + 1, 4), 0)
        cells.append(Cells(kinds, position + 5, size))
        position = position + 1 + np.where(is_text, 4 + size, 0)
    return cells, position


def texts(data: Bytes, cells: Cells) -> pa.StringArray:
    """Return the texts of a column; null where a cell is of another kind."""
    count = len(cells.kinds)
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(cells.size, out=offsets[1:])
    total = int(offsets[-1])
    if total <= _SHORT * count:
        body = data[np.repeat(cells.begin - offsets[:-1], cells.size) + np.arange(total)].tobytes()
    else:
        view = data.data
        ends = zip(cells.begin.tolist(), (cells.begin + cells.size).tolist(), strict=True)
        body = b"".join([view[begin:end] for begin, end in ends])
    valid = np.packbits(cells.kinds == TEXT, bitorder="little").tobytes()
    buffers = [pa.py_buffer(valid), pa.py_buffer(offsets.tobytes()), pa.py_buffer(body)]
    large = pa.Array.from_buffers(pa.large_string(), count, buffers)
    return large.cast(pa.string())


def choose(is_first: Mask, first: Cells, second: Cells) -> Cells:
    """Return the cells of the one column where ``is_first``, else those of the other."""
    return Cells(
        np.where(is_first, first.kinds, second.kinds),
        np.where(is_first, first.begin, second.begin),
        np.where(is_first, first.size, second.size),
    )


def scatter(cells: Cells, rows: Numbers, count: int) -> Cells:
    """Return the cells as those of ``rows``; all other rows have a null."""
    kinds = np.full(count, NULL, np.uint8)
    begin, size = np.zeros(count, np.int64), np.zeros(count, np.int64)
    kinds[rows], begin[rows], size[rows] = cells
    return Cells(kinds, begin, size)
