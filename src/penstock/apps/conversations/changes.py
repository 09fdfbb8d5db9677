"""How many lines of files an edit adds and removes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple


class Changes(NamedTuple):
    """Lines that were added to files, and lines that were taken from them."""

    added: int
    removed: int


def read_patch(told: Any) -> Changes | None:
    """Return what a tool says that it has changed; None if it does not say."""
    if not isinstance(told, dict):
        return None
    patch = told.get("structuredPatch")
    if isinstance(patch, list) and patch:
        marks = Counter(
            line[:1]
            for hunk in patch
            if isinstance(hunk, dict) and isinstance(hunk.get("lines"), list)
            for line in hunk["lines"]
            if isinstance(line, str)
        )
        return Changes(marks["+"], marks["-"])
    if told.get("type") == "create" and isinstance(content := told.get("content"), str):
        return Changes(_count(content), 0)
    return None


def estimate_changes(given: Mapping[str, Any]) -> Changes | None:
    """Return what the arguments of a tool would change; None for a tool that changes no file."""
    edits = given.get("edits")
    if isinstance(edits, list):
        found = [one for edit in edits if isinstance(edit, dict) and (one := estimate_changes(edit)) is not None]
        return Changes(sum(one.added for one in found), sum(one.removed for one in found)) if found else None
    old, new = given.get("old_string"), given.get("new_string")
    if isinstance(old, str) and isinstance(new, str):
        before, after = Counter(old.splitlines()), Counter(new.splitlines())
        return Changes((after - before).total(), (before - after).total())
    if isinstance(content := given.get("content"), str) and isinstance(given.get("file_path"), str):
        return Changes(_count(content), 0)
    return None


def _count(text: str) -> int:
    return len(text.splitlines())
