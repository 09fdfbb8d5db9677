"""The end of a log in memory: what is read soon after it was appended is not read from disk."""

from __future__ import annotations

from collections import deque

import pyarrow as pa

from ..delivery import Batch

_MERGED_ROWS = 8192
_MERGED_ENTRIES = 1024


class LogCache:
    """Holds the entries that were appended last, for as long as the reader keeps up."""

    def __init__(self, size: int) -> None:
        self._size, self._bytes = size, 0
        self._entries: deque[tuple[int, Batch]] = deque()
        self.is_behind = False
        """Whether the reader is so far behind that it is to read from disk; nothing is added meanwhile."""

    def add(self, number: int, batch: Batch) -> None:
        """Hold an entry, unless the reader is far behind."""
        if not self.is_behind and self._bytes + batch.nbytes > self._size:
            self.is_behind = True
        if not self.is_behind:
            self._entries.append((number, batch))
            self._bytes += batch.nbytes

    def begins_with(self, number: int) -> bool:
        """Tell whether the entry with this number is the first that is held."""
        return bool(self._entries) and self._entries[0][0] == number

    def take(self, number: int) -> tuple[Batch, int] | None:
        """Take the entries from ``number`` on, several as one where they are small and alike, and the number behind.

        Returns None if that entry is not held: it is to be read from disk first.
        """
        taken: list[Batch] = []
        rows = 0
        while self._entries and rows < _MERGED_ROWS and len(taken) < _MERGED_ENTRIES:
            first, batch = self._entries[0]
            if first > number:
                break
            if first == number:
                if taken and (batch.schema != taken[0].schema or rows + batch.num_rows > _MERGED_ROWS):
                    break
                taken.append(batch)
                rows, number = rows + batch.num_rows, number + 1
            self._entries.popleft()
            self._bytes -= batch.nbytes
        if not taken:
            return None
        return (taken[0] if len(taken) == 1 else pa.concat_batches(taken)), number
