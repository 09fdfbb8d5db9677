"""Find lines by their words: phrases, beginnings of words, and where they were said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    TextClause,
    bindparam,
    column,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy import table as table_of

from ....errors import PermanentError
from ..schema import files, lines, sessions

MAX_TERMS = 32
"""How many words and phrases a search may have."""
_OPEN, _CLOSE = "\x02", "\x03"
"""What stands around a found word in a snippet as the database makes it."""
_SNIPPET_LENGTH = 200
_SEARCHED_LENGTH = 200_000
"""How many characters of a line PostgreSQL searches, which has a limit; the migration says the same."""
_TERM = re.compile(r'(?P<not>-?)(?:(?P<field>[a-z]+):)?(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')
_WORD = re.compile(r"\w+")
FIELDS = ("project", "session", "kind", "role", "type", "model", "tool", "file", "branch", "host", "owner")
"""What may be asked for in the text of a search, as in ``kind:prompt``."""
DATES = ("date", "since", "until")
"""When it was said, in the text of a search: a year, a month or a day, as in ``date:2026-03``."""
ROLES = {"user": ("prompt",), "assistant": ("answer",), "tool": ("result",), "program": ("command", "event")}
"""The kinds of lines that each role speaks."""
_DATE = re.compile(r"(?P<year>\d{4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2}))?)?")


class BadSearch(PermanentError):
    """What was asked for cannot be searched; the text says why."""


class Term(msgspec.Struct, frozen=True):
    """Words that follow one another; the last may be the beginning of one."""

    words: tuple[str, ...]
    is_prefix: bool = False
    is_refused: bool = False


class Search(msgspec.Struct, frozen=True):
    """What is looked for."""

    terms: tuple[Term, ...]
    fields: Mapping[str, str]
    since: datetime | None = None
    before: datetime | None = None


class Hit(msgspec.Struct, frozen=True):
    """A line that was found."""

    id: int
    session: str | None
    project: str
    title: str | None
    kind: str
    type: str
    uuid: str | None
    at: datetime
    snippet: list[str]
    """Text, a found word, text and so on: each second piece was looked for."""


def parse(
    asked: str,
    *,
    since: datetime | None = None,
    before: datetime | None = None,
    zone: tzinfo = UTC,
    **given: str,
) -> Search:
    """Return the search that a text means: `flaky "exit code" migrat* -docker kind:prompt date:2026-03`.

    ``given`` are fields beside it; days are those of ``zone``. Raises BadSearch.
    """
    terms: list[Term] = []
    fields = dict(given)
    for found in _TERM.finditer(asked):
        name, content = found["field"], found["phrase"] if found["phrase"] is not None else found["word"]
        if name in FIELDS and not found["not"]:
            fields[name] = content
            continue
        if name in DATES and not found["not"]:
            first, after = _span(name, content, zone)
            since = max(since or first, first) if name != "until" else since
            before = min(before or after, after) if name != "since" else before
            continue
        if name:
            content = f"{name}:{content}"
        words = tuple(_WORD.findall(content))
        if words:
            terms.append(Term(words, content.endswith("*"), bool(found["not"])))
    if fields.get("role", "user") not in ROLES:
        raise BadSearch(f"expected role: to be one of {', '.join(ROLES)}, not {fields['role'][:50]!r}")
    if len(terms) > MAX_TERMS:
        raise BadSearch(f"expected at most {MAX_TERMS} words and phrases, not {len(terms)}")
    if terms and all(term.is_refused for term in terms):
        raise BadSearch("expected a word to look for beside those to leave out")
    if not terms and not fields and since is None and before is None:
        raise BadSearch("expected a word to look for")
    return Search(tuple(terms), fields, since, before)


def _span(name: str, content: str, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return the beginning and the end of a year, a month or a day."""
    found = _DATE.fullmatch(content)
    try:
        if found is None:
            raise ValueError(content)
        year, month, day = (int(found[part] or 0) for part in ("year", "month", "day"))
        first = datetime(year, month or 1, day or 1)
        if day:
            after = first + timedelta(days=1)
        else:
            after = datetime(first.year + (not month or month == 12), (month or 12) % 12 + 1, 1)
        return first.replace(tzinfo=zone).astimezone(UTC), after.replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadSearch(f"expected {name}: to be a date such as 2026-03-01 or 2026-03, not {content[:50]!r}") from None


def find(connection: Connection, search: Search, limit: int, before_id: int | None = None) -> list[Hit]:
    """Return lines, those that were stored last first; ``before_id`` is that of the last one of the page before."""
    is_postgres = connection.dialect.name == "postgresql"
    statement = _postgres(search) if is_postgres else _sqlite(search)
    statement = statement.join(files, files.c.id == lines.c.file_id).join(
        sessions, sessions.c.id == lines.c.session, isouter=True
    )
    for condition in _conditions(search):
        statement = statement.where(condition)
    # By the index's own order SQLite stops at the last line of the page; by the table's it would sort all it found.
    id = lines.c.id if is_postgres or not search.terms else _INDEX.c.rowid
    if before_id is not None:
        statement = statement.where(id < before_id)
    rows = connection.execute(statement.order_by(id.desc()).limit(limit))
    pieces = partial(_around, search.terms) if is_postgres else _pieces
    return [
        Hit(row.id, row.session, row.project, row.title, row.kind, row.type, row.uuid, row.at, pieces(row.snippet))
        for row in rows
    ]


_INDEX = table_of("conversations_search", column("rowid"))
_SHOWN = (
    lines.c.id,
    lines.c.session,
    files.c.project,
    sessions.c.title,
    lines.c.kind,
    lines.c.type,
    lines.c.uuid,
    lines.c.at,
)


def matching(connection: Connection, search: Search) -> list[ColumnElement[bool]]:
    """Return the conditions that a line, joined with its file, has what is looked for."""
    conditions = _conditions(search)
    if not search.terms:
        return conditions
    if connection.dialect.name == "postgresql":
        return [*conditions, literal_column("conversations_lines.search").op("@@")(_words(search.terms))]
    return [*conditions, lines.c.id.in_(select(_INDEX.c.rowid).where(_matches(search.terms)))]


def _sqlite(search: Search) -> Select[Any]:
    if not search.terms:
        return select(*_SHOWN, func.substr(lines.c.text, 1, 200).label("snippet")).select_from(lines)
    snippet = literal_column(f"snippet(conversations_search, 0, '{_OPEN}', '{_CLOSE}', '…', 24)", Text)
    joined = _INDEX.join(lines, _INDEX.c.rowid == lines.c.id)
    return select(*_SHOWN, snippet.label("snippet")).select_from(joined).where(_matches(search.terms))


def _matches(terms: tuple[Term, ...]) -> TextClause:
    return text("conversations_search MATCH :words").bindparams(bindparam("words", _fts5(terms)))


def _fts5(terms: tuple[Term, ...]) -> str:
    wanted = " AND ".join(_quoted(term) for term in terms if not term.is_refused)
    refused = " OR ".join(_quoted(term) for term in terms if term.is_refused)
    return f"({wanted}) NOT ({refused})" if refused else wanted


def _quoted(term: Term) -> str:
    """Return a term as a string of FTS5; its words have no quotes in them."""
    return '"' + " ".join(term.words) + '"' + ("*" if term.is_prefix else "")


def _postgres(search: Search) -> Select[Any]:
    if not search.terms:
        return select(*_SHOWN, func.left(lines.c.text, 200).label("snippet")).select_from(lines)
    shown = func.left(lines.c.text, _SEARCHED_LENGTH).label("snippet")
    has_words = literal_column("conversations_lines.search").op("@@")(_words(search.terms))
    return select(*_SHOWN, shown).select_from(lines).where(has_words)


def _words(terms: tuple[Term, ...]) -> ColumnElement[Any]:
    return func.to_tsquery("simple", _tsquery(terms))


def _tsquery(terms: tuple[Term, ...]) -> str:
    """Return the terms as PostgreSQL has them; their words are letters, digits and underscores alone."""
    return " & ".join(
        ("!" if term.is_refused else "")
        + "("
        + " <-> ".join(f"'{word}'" for word in term.words)
        + (":*" if term.is_prefix else "")
        + ")"
        for term in terms
    )


def _conditions(search: Search) -> list[Any]:
    found: list[Any] = []
    of_lines = {"session": lines.c.session, "kind": lines.c.kind, "type": lines.c.type, "model": lines.c.model}
    for name, value in search.fields.items():
        if name in of_lines:
            found.append(of_lines[name] == value)
        elif name == "project":
            found.append(files.c.project.contains(value, autoescape=True))
        elif name == "role":
            found.append(lines.c.kind.in_(ROLES[value]))
        elif name == "branch":
            found.append(lines.c.session.in_(select(sessions.c.id).where(sessions.c.branch == value)))
        elif name in ("host", "owner"):
            found.append(files.c[name] == value)
        elif name == "file":
            found.append(lines.c.paths.contains(value, autoescape=True))
        elif name == "tool":
            found.append(lines.c.tools.contains(f" {value} ", autoescape=True))
    if search.since is not None:
        found.append(lines.c.at >= search.since)
    if search.before is not None:
        found.append(lines.c.at < search.before)
    return found


def _pieces(snippet: str) -> list[str]:
    """Return the pieces of a snippet of SQLite."""
    return re.split(f"[{_OPEN}{_CLOSE}]", snippet)


def _around(terms: tuple[Term, ...], text: str) -> list[str]:
    """Return the place of the first word in a text as pieces; what PostgreSQL would return has lost its markup."""
    words = "|".join(re.escape(word) for term in terms if not term.is_refused for word in term.words)
    first = re.search(rf"(?<!\w)(?:{words})", text, re.IGNORECASE) if words else None
    begin = max(0, first.start() - _SNIPPET_LENGTH // 3) if first else 0
    shown = text[begin : begin + _SNIPPET_LENGTH]
    found = re.split(rf"((?<!\w)(?:{words}))", shown, flags=re.IGNORECASE) if first else [shown]
    return ["…" + found[0] if begin else found[0], *found[1:]]
