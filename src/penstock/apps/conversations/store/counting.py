"""Count what lines tell: the sessions, the responses of models with their tokens, and the calls of tools."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, and_, case, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ..lines import PROMPT_RANK, Kind, Title
from ..schema import calls, drift, lines, responses, sessions
from .reading import Row

_NO_RANK = 9
_TOKENS = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read", "cost_usd")


class Found(msgspec.Struct, frozen=True):
    """A new line, with the session and the time that are taken for it."""

    file: int
    project: str
    session: str | None
    at: datetime
    row: Row
    model: str | None = None
    """The model whose tokens it counts: some agents name it in a line before."""


def count(connection: Connection, found: Sequence[Found], host: str, owner: str) -> None:
    """Add new lines to sessions, responses and calls."""
    counted: dict[str, dict[str, Any]] = {}
    for one in found:
        if one.session is not None:
            _add(counted, one, host, owner)
    _upsert(connection, sessions, "id", counted.values(), _session)
    _upsert(connection, responses, "key", _responses(found), _response)
    _upsert(connection, calls, "id", _calls(found), _call)
    _upsert(connection, drift, ("what", "name"), _unknown(found), _drift)
    _claim_summaries(connection, found)


def _add(counted: dict[str, dict[str, Any]], one: Found, host: str, owner: str) -> None:
    line = one.row.line
    session = counted.get(one.session or "")
    if session is None:
        session = counted[one.session or ""] = {
            "id": one.session,
            "project": one.project,
            "host": host,
            "owner": owner,
            "cwd": None,
            "branch": None,
            "version": None,
            "first_at": one.at,
            "last_at": one.at,
            "lines": 0,
            "prompts": 0,
            "answers": 0,
            "title": None,
            "title_rank": _NO_RANK,
            "title_at": None,
        }
    is_later = one.at >= session["last_at"]
    session["first_at"] = min(session["first_at"], one.at)
    session["last_at"] = max(session["last_at"], one.at)
    session["lines"] += 1
    session["prompts"] += line.kind is Kind.PROMPT and not line.is_sidechain
    session["answers"] += line.kind is Kind.ANSWER and not line.is_sidechain
    for name in ("cwd", "branch", "version"):
        named = getattr(line, name)
        session[name] = (named or session[name]) if is_later else (session[name] or named)
    if line.title is not None and _is_better(line.title, one.at, session):
        session |= {"title": line.title.text, "title_rank": line.title.rank, "title_at": one.at}


def _is_better(title: Title, at: datetime, session: dict[str, Any]) -> bool:
    """Tell whether a title takes the place of another: of prompts the first one names a session, else the latest."""
    rank: int = session["title_rank"]
    if title.rank != rank:
        return title.rank < rank
    before: datetime = session["title_at"]
    return at < before if title.rank >= PROMPT_RANK else at >= before


def _responses(found: Iterable[Found]) -> Iterable[dict[str, Any]]:
    """Return the responses: one is written as several lines, the last of which has all of its tokens."""
    counted: dict[str, dict[str, Any]] = {}
    for one in found:
        line = one.row.line
        if line.usage is None:
            continue
        key = f"{line.message}|{line.request or ''}" if line.message else line.uuid or one.row.digest.hex()
        response = counted.get(key)
        usage = msgspec.structs.asdict(line.usage)
        if response is None:
            counted[key] = {
                "key": key,
                "message": line.message,
                "session": one.session,
                "project": one.project,
                "at": one.at,
                "model": line.model or one.model,
                "is_sidechain": line.is_sidechain,
                **usage,
            }
            continue
        for name in _TOKENS:
            response[name] = max((v for v in (response[name], usage[name]) if v is not None), default=None)
        if response["is_sidechain"] and not line.is_sidechain:
            response |= {"session": one.session, "project": one.project, "is_sidechain": False}
    return counted.values()


def _calls(found: Iterable[Found]) -> Iterable[dict[str, Any]]:
    counted: dict[str, dict[str, Any]] = {}
    blank: dict[str, Any] = dict.fromkeys(
        ("session", "project", "name", "called_at", "ended_at", "is_error", "path", "added", "removed")
    )
    for one in found:
        for call in one.row.line.calls:
            known = counted.setdefault(call.id, {"id": call.id, **blank})
            if known["name"] is None:
                known |= {"session": one.session, "project": one.project, "name": call.name, "called_at": one.at}
                known["path"] = call.path
                if call.changes is not None and known["added"] is None:
                    known |= call.changes._asdict()
        for result in one.row.line.results:
            known = counted.setdefault(result.id, {"id": result.id, **blank})
            if known["ended_at"] is None:
                known |= {"ended_at": one.at, "is_error": result.is_error}
                if result.changes is not None:
                    known |= result.changes._asdict()
    return counted.values()


def _unknown(found: Iterable[Found]) -> Iterable[dict[str, Any]]:
    counted: dict[tuple[str, str], dict[str, Any]] = {}
    for one in found:
        for what, name in one.row.line.unknown:
            known = counted.setdefault(
                (what, name), {"what": what, "name": name, "lines": 0, "first_at": one.at, "last_at": one.at}
            )
            known["lines"] += 1
            known["first_at"], known["last_at"] = min(known["first_at"], one.at), max(known["last_at"], one.at)
            known |= {"version": one.row.line.version, "session": one.session}
    return counted.values()


def _claim_summaries(connection: Connection, found: Sequence[Found]) -> None:
    """Give each summary to the session that holds the line it names, whichever of them came first."""
    waits = select(lines.c.id).where(lines.c.leaf.is_not(None)).limit(1)
    if not any(one.row.line.leaf for one in found) and connection.scalar(waits) is None:
        return
    leaf = lines.alias("leaf")
    waiting = connection.execute(
        select(lines.c.id, lines.c.text, leaf.c.session, leaf.c.at)
        .join(leaf, leaf.c.uuid == lines.c.leaf)
        .where(lines.c.leaf.is_not(None), leaf.c.session.is_not(None))
        .order_by(lines.c.id)
    ).all()
    for id, text, session, at in waiting:
        connection.execute(update(lines).where(lines.c.id == id), {"session": session, "leaf": None})
        title = Title(3, " ".join(text.split())[:200])
        row = connection.execute(select(sessions).where(sessions.c.id == session)).one()
        named = {"title_rank": row.title_rank, "title_at": row.title_at}
        if title.text and _is_better(title, at, named):
            named = {"title": title.text, "title_rank": title.rank, "title_at": at}
            connection.execute(update(sessions).where(sessions.c.id == session), named)


def _session(new: Any) -> dict[str, Any]:
    old = sessions.c
    is_better = or_(
        new.title_rank < old.title_rank,
        and_(
            new.title_rank == old.title_rank,
            new.title_rank != _NO_RANK,
            or_(
                and_(new.title_rank >= PROMPT_RANK, new.title_at < old.title_at),
                and_(new.title_rank < PROMPT_RANK, new.title_at >= old.title_at),
            ),
        ),
    )
    is_later = new.last_at >= old.last_at
    return {
        **{name: case((is_later, func.coalesce(new[name], old[name])), else_=func.coalesce(old[name], new[name]))
           for name in ("cwd", "branch", "version")},
        "project": case((new.first_at < old.first_at, new.project), else_=old.project),
        "first_at": case((new.first_at < old.first_at, new.first_at), else_=old.first_at),
        "last_at": case((is_later, new.last_at), else_=old.last_at),
        **{name: old[name] + new[name] for name in ("lines", "prompts", "answers")},
        **{name: case((is_better, new[name]), else_=old[name]) for name in ("title", "title_rank", "title_at")},
    }  # fmt: skip


def _response(new: Any) -> dict[str, Any]:
    old = responses.c
    is_parent = and_(old.is_sidechain, new.is_sidechain.is_(False))
    return {
        **{name: case((or_(old[name].is_(None), new[name] > old[name]), new[name]), else_=old[name])
           for name in _TOKENS},
        **{name: case((is_parent, new[name]), else_=old[name]) for name in ("session", "project")},
        "is_sidechain": and_(old.is_sidechain, new.is_sidechain),
    }  # fmt: skip


def _call(new: Any) -> dict[str, Any]:
    old, names = calls.c, ("session", "project", "name", "called_at", "ended_at", "is_error", "path")
    is_result = new.ended_at.is_not(None)  # which knows better than the arguments what was changed
    return {
        **{name: func.coalesce(old[name], new[name]) for name in names},
        **{
            name: case(
                (is_result, func.coalesce(new[name], calls.c[name])), else_=func.coalesce(calls.c[name], new[name])
            )
            for name in ("added", "removed")
        },
    }


def _drift(new: Any) -> dict[str, Any]:
    old = drift.c
    is_later = new.last_at >= old.last_at
    return {
        "lines": old.lines + new.lines,
        "first_at": case((new.first_at < old.first_at, new.first_at), else_=old.first_at),
        **{name: case((is_later, new[name]), else_=old[name]) for name in ("last_at", "version", "session")},
    }


def _upsert(
    connection: Connection, table: Table, key: str | tuple[str, ...], rows: Iterable[dict[str, Any]], change: Any
) -> None:
    """Insert rows, or change those that are there."""
    given = list(rows)
    if not given:
        return
    of = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = of.insert(table)
    keys = [key] if isinstance(key, str) else list(key)
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=change(statement.excluded)), given)
