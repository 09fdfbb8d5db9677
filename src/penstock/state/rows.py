"""Make keyed state of the rows in which a table keeps its versions."""

from __future__ import annotations

from collections.abc import Iterable

from ..keyedstate import Entry


def newest(rows: Iterable[tuple[str, bytes | None, float | None]]) -> dict[str, Entry]:
    """Return the last entry of each key, of rows ordered by version; a null value deletes."""
    found: dict[str, Entry] = {}
    for key, value, expires in rows:
        found.pop(key, None)
        if value is not None:
            found[key] = Entry(value, expires)
    return found
