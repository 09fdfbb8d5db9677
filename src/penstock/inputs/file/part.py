"""What is read from a file in one go, and what reads it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from ...delivery import Decoder
from ...metadata import VALUE
from .place import Place

_PATH = pa.schema([pa.field(VALUE, pa.binary(), nullable=False)])


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one file, or the mere fact that it was read up to a place."""

    place: Place
    """Where reading goes on after them."""
    row: int = 0
    """The number of the first row within the file."""
    batch: pa.RecordBatch | None = None
    decoder: Decoder | None = None
    """How the payloads of the batch become rows, where the input has no codec for that."""
    error: Exception | None = None
    """Why this part cannot be read; the batch then names the file."""


def naming(path: str, place: Place, row: int, error: Exception) -> Part:
    """Return a part that says of a file, by its path, what cannot be read."""
    return Part(
        place, row, pa.RecordBatch.from_arrays([pa.array([os.fsencode(path)], pa.binary())], schema=_PATH), None, error
    )


class FileReader(Protocol):
    """Reads one file from its place on."""

    def read(self, final: bool, version: str | None) -> Part | None:
        """Return the next part, or None when there is none for now; ``final`` takes an unfinished end as it is.

        With a ``version`` an end is final only if the file still is of that version.

        Raises Damaged for what cannot be read, Rewritten when the file is another one than that of its place,
        Removed when it is gone.
        """
        ...

    def resumes(self) -> bool:
        """Tell whether the file holds what was read up to its place, so that another one may be read on."""
        ...

    def end(self) -> Place:
        """Return the place behind everything that is complete now."""
        ...

    def done(self) -> int:
        """Return how many bytes of the file were taken, for showing progress."""
        ...

    def close(self) -> None: ...
