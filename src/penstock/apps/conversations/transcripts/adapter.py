"""The interface of adapters, and how they are found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ....registry import entry_points

GROUP = "penstock.transcripts"
"""The group of entry points by which packages offer adapters: each is an object with these two methods."""


@runtime_checkable
class Adapter(Protocol):
    """Reads lines of one agent's logs as those of Claude Code, whose format is the common one."""

    def roots(self, environment: Mapping[str, str]) -> Sequence[Path]:
        """Return the folders in which the agent keeps its logs."""
        ...

    def translate(self, found: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return a line in the common format; None for a line of another agent.

        What is not known of the agent's format stays a line of its own type, and is never an error. `project` names
        the project of the line, where the place of its file does not.
        """
        ...


_installed: list[Adapter] = []


def adapters() -> Sequence[Adapter]:
    """Return the adapters that are installed, in the order of their names; they are looked for once."""
    if not _installed:
        _installed.extend(entry.load() for entry in sorted(entry_points(GROUP), key=lambda entry: entry.name))
    return _installed


def translate(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a line in the common format, whichever agent wrote it."""
    if "sessionId" in found and "uuid" in found:
        return found
    for adapter in adapters():
        if (translated := adapter.translate(found)) is not None:
            return translated
    return found


def project_of(folder: Any) -> str | None:
    """Return the name of a project as Claude Code makes it of a folder; None for no folder."""
    return re.sub("[^A-Za-z0-9]", "-", folder[:4000]) if isinstance(folder, str) and folder else None


def text(value: Any) -> str:
    """Return a text of a line; empty for what is not one."""
    return value if isinstance(value, str) else ""


def mapping(value: Any) -> dict[str, Any]:
    """Return an object of a line; empty for what is not one."""
    return value if isinstance(value, dict) else {}


def count(value: Any) -> int:
    """Return a number of tokens; 0 for what is not one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
