"""Keep positions in memory: for tests, and for streams that may begin anew."""

from __future__ import annotations

from collections.abc import Mapping

from ..delivery import Position


class MemoryStore:
    """Keeps positions as long as the process lives."""

    def __init__(self) -> None:
        self.positions: dict[str, Position] = {}

    async def load(self, key: str) -> Position | None:
        """Return what was last saved under ``key``."""
        return self.positions.get(key)

    async def save(self, positions: Mapping[str, Position]) -> None:
        """Keep all of ``positions``."""
        self.positions.update(positions)
