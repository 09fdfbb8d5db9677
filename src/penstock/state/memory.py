"""Keep positions in memory: for tests, and for streams that may begin anew."""

from __future__ import annotations

from collections.abc import Mapping

from ..delivery import Position
from ..keyedstate import Changes, Entry, Prune, Version


class MemoryStore:
    """Keeps positions as long as the process lives."""

    notice = None

    def __init__(self) -> None:
        self.positions: dict[str, Position] = {}
        self._states: dict[tuple[str, str], dict[str, dict[int, Entry | None]]] = {}
        """By stream and name of the state, then by key and version."""

    async def load(self, key: str) -> Position | None:
        """Return what was last saved under ``key``."""
        return self.positions.get(key)

    async def save(self, positions: Mapping[str, Position]) -> None:
        """Keep all of ``positions``."""
        self.positions.update(positions)

    async def load_state(self, stream: str, name: str, version: Version) -> Mapping[str, Entry]:
        """Return the state ``name`` of a stream as of a version, the longest unchanged first."""
        found: list[tuple[int, str, Entry]] = []
        for key, versions in self._states.get((stream, name), {}).items():
            number = max((n for n in versions if n <= version.base or n == version.number), default=0)
            if (entry := versions.get(number)) is not None:
                found.append((number, key, entry))
        return {key: entry for _, key, entry in sorted(found)}

    async def save_state(self, stream: str, number: int, changes: Changes, prune: Prune) -> None:
        """Keep changes under a new version number."""
        places = set(prune.replaced)
        if prune.has_void:
            places = {
                (name, key) for owner, name in self._states if owner == stream for key in self._states[owner, name]
            }
        for name, key in places:
            self._prune(self._states[stream, name], key, prune)
        for (name, key), entry in changes.items():
            self._states.setdefault((stream, name), {}).setdefault(key, {})[number] = entry

    @staticmethod
    def _prune(state: dict[str, dict[int, Entry | None]], key: str, prune: Prune) -> None:
        base, last = prune.settled.base, prune.settled.number
        above = {n: entry for n, entry in state.get(key, {}).items() if n > last and not prune.is_certain}
        below = {n: entry for n, entry in state.get(key, {}).items() if n <= base or n == last}
        newest = max(below, default=0)
        if newest and below[newest] is not None:
            above[newest] = below[newest]
        kept = {n: e for n, e in above.items() if e is None or e.expires is None or e.expires > prune.now}
        if kept:
            state[key] = kept
        else:
            state.pop(key, None)
