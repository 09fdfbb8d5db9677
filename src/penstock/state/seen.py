"""What a process last saw of the positions that it keeps, so that it notices when another one moves them."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ConfigError


class Seen:
    """The positions as this process last saw them, encoded."""

    def __init__(self) -> None:
        self._seen: dict[str, str | None] = {}
        self._tried: dict[str, str] = {}

    def note(self, key: str, position: str | None) -> None:
        """Note a position that was read or saved."""
        self._seen[key] = position
        self._tried.pop(key, None)

    @property
    def known(self) -> dict[str, str]:
        """The positions as they were last seen, encoded."""
        return {key: position for key, position in self._seen.items() if position is not None}

    def check(self, found: Mapping[str, str | None], positions: Mapping[str, str]) -> None:
        """Note what is about to be saved; raises ConfigError if what is there was not put there by this process."""
        for key in positions:
            if key in self._seen and found.get(key) not in (self._seen[key], self._tried.get(key, self._seen[key])):
                if found.get(key) is None:
                    raise ConfigError(
                        f"the position {key!r} is gone: what keeps it was emptied or replaced while in use"
                    )
                raise ConfigError(
                    f"another process has moved the position {key!r}: it runs the same stream, and this one stops"
                )
        self._tried.update(positions)
