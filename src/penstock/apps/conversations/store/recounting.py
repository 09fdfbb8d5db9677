"""Count all stored lines anew, as when the meaning of a line is known better than when it was stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, select, update

from ..lines import NoLine, parse
from ..schema import calls, drift, files, lines, responses, sessions
from .counting import Found, count
from .reading import Row

_BATCH_SIZE = 2000
_COUNTED = (sessions, responses, calls, drift)


def recount(connection: Connection) -> int:
    """Count all lines anew in the order in which they were stored; returns how many there are."""
    for table in _COUNTED:
        connection.execute(delete(table))
    models: dict[int, str] = {}
    total, last = 0, 0
    while rows := _read(connection, last):
        last = rows[-1].id
        total += len(rows)
        for (host, owner), found in _by_source(rows, models).items():
            for row, one in found:
                if leaf := one.row.line.leaf:  # a summary is claimed anew
                    connection.execute(update(lines).where(lines.c.id == row.id), {"leaf": leaf, "session": None})
            count(connection, [one for _, one in found], host, owner)
    return total


def _read(connection: Connection, last: int) -> Sequence[Any]:
    columns = (lines.c[name] for name in ("id", "file_id", "row", "digest", "session", "at", "read_at", "line"))
    joined = lines.join(files, files.c.id == lines.c.file_id)
    shown = select(*columns, files.c.path, files.c.project, files.c.host, files.c.owner).select_from(joined)
    return connection.execute(shown.where(lines.c.id > last).order_by(lines.c.id).limit(_BATCH_SIZE)).all()


def _by_source(rows: Sequence[Any], models: dict[int, str]) -> dict[tuple[str, str], list[tuple[Any, Found]]]:
    """Return what was found in lines, those of each machine and person together."""
    by_source: dict[tuple[str, str], list[tuple[Any, Found]]] = defaultdict(list)
    for row in rows:
        try:
            line = parse(bytes(row.line))
        except NoLine:  # it was one when it was stored
            continue
        if line.model:
            models[row.file_id] = line.model
        read = Row(row.path, row.row, row.read_at, row.digest, row.line, line)
        session = None if line.leaf else row.session
        found = Found(row.file_id, row.project, session, row.at, read, models.get(row.file_id))
        by_source[row.host, row.owner].append((row, found))
    return by_source
