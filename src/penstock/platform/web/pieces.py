"""A file that is sent on while it is written."""

from __future__ import annotations

import io
from typing import Any


class Pieces(io.RawIOBase):
    """A file whose content is taken away while it is written."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        """Tell that it can be written."""
        return True

    def write(self, content: Any) -> int:
        """Hold some content."""
        self._held.append(bytes(content))
        self._position += len(self._held[-1])
        return len(self._held[-1])

    def tell(self) -> int:
        """Return how much was written, whether it was taken or not."""
        return self._position

    def take(self) -> bytes:
        """Return what was written since the last call."""
        held, self._held = self._held, []
        return b"".join(held)
