"""Spill rows of open windows to disk, and read them back when their window fires."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ..delivery import Batch
from ..errors import PenstockError
from ..identifiers import new_id

_ALIGNMENT = 64
"""Bytes at whose multiples a batch begins, so that it can be read where it lies."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a batch is."""

    file: Path
    offset: int
    rows: int


class Spill:
    """Batches in files of this process, by number. They outlive no run: rows of open windows are read again."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is this buffer's own; ``clear`` removes what an earlier run left there."""
        self._folder = folder
        self._run = new_id()
        """Begins the names of its files: a run that was broken off may still be writing one of its own."""
        self._places: dict[int, _Place] = {}
        self._holders: Counter[int] = Counter()
        """By how many each batch is still to be read."""
        self._in_file: Counter[Path] = Counter()
        self._next = 0
        self.rows = 0
        """How many rows are on disk."""
        self.unneeded: list[Path] = []
        """Files of which nobody reads anything more."""

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def write(self, batches: Mapping[int, Batch]) -> dict[int, _Place]:
        """Write batches to a new file and return where they are; they count once they were ``added``."""
        path = self._folder / f"{self._run}-{self._next:08}.arrow"
        self._next += 1
        places: dict[int, _Place] = {}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                for number, batch in batches.items():
                    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                    places[number] = _Place(path, file.tell(), batch.num_rows)
                    with pa.ipc.new_stream(file, batch.schema) as writer:
                        writer.write_batch(batch)
        except OSError as error:
            with suppress(OSError):
                path.unlink()
            raise PenstockError(f"rows of open windows cannot be written to {self._folder}: {error}") from error
        return places

    def add(self, places: Mapping[int, _Place], wanted: set[int]) -> None:
        """Count what ``write`` has written, as far as it is still ``wanted``."""
        for number in wanted:
            place = self._places[number] = places[number]
            self._holders[number] = 1
            self._in_file[place.file] += 1
            self.rows += place.rows
        self.unneeded += {place.file for place in places.values()} - self._in_file.keys()

    def read(self, numbers: Iterable[int]) -> dict[int, Batch]:
        """Return batches by number; their cells lie in the files until they are copied."""
        found = {}
        files: dict[Path, pa.MemoryMappedFile] = {}
        for number in numbers:
            place = self._places[number]
            if place.file not in files:
                files[place.file] = pa.memory_map(str(place.file))
            file = files[place.file]
            file.seek(place.offset)
            found[number] = pa.ipc.open_stream(file).read_next_batch()
        return found

    def hold(self, number: int) -> None:
        """Note that a batch is to be read by one more."""
        self._holders[number] += 1

    def remove(self, number: int) -> None:
        """Note that one has no more need of a batch."""
        self._holders[number] -= 1
        if self._holders[number] > 0:
            return
        del self._holders[number]
        place = self._places.pop(number)
        self.rows -= place.rows
        self._in_file[place.file] -= 1
        if not self._in_file[place.file]:
            del self._in_file[place.file]
            self.unneeded.append(place.file)

    def clean(self) -> None:
        """Remove the files of which nobody reads anything more."""
        while self.unneeded:
            self.unneeded.pop().unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all files."""
        shutil.rmtree(self._folder, ignore_errors=True)
