"""Read table names that begin with a catalogue, ``flow.main.readings``, as the database knows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...errors import PermanentError
from ...sql.statement import Statement, Token

_NO_ALIAS = frozenset(
    {"where", "group", "order", "limit", "offset", "fetch", "having", "window", "union", "intersect", "except", "join"}
    | {"left", "right", "inner", "outer", "full", "cross", "natural", "on", "using", "for", "tablesample", "qualify"}
)
"""Words after a table that are no other name for it."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the database knows by name; looked up only when the query asks for it."""

    schemas: Callable[[], Sequence[str]]
    tables: Callable[[], Sequence[tuple[str, str]]]
    """Schema and name of each table and view of the user."""


def check(sql: str) -> None:
    """Raise ValueError unless the text is one query that can be put in brackets."""
    statement, depth = Statement(sql), 0
    if not statement.is_query():
        raise ValueError("expected one query, beginning with SELECT, WITH, VALUES or FROM")
    for token in statement.tokens:
        depth += (token.text == "(") - (token.text == ")") if token.kind == "symbol" else 0
        if depth < 0:
            raise ValueError("a bracket is closed that was never opened")
        if token.kind == "symbol" and token.text == ";":
            raise ValueError("expected one query, found another statement after ';'")
    if depth:
        raise ValueError("a bracket is never closed")


def without_semicolon(sql: str) -> str:
    """Return the query without the semicolons after it."""
    tokens = Statement(sql).tokens
    end = len(tokens)
    while end and tokens[end - 1].text == ";":
        end -= 1
    return sql[: tokens[end - 1].end] if end else ""


def resolved(sql: str, catalogue: str, names: Names) -> str:
    """Return the query with ``catalogue.schema.table`` as ``schema.table``, and ``FROM catalogue`` as the one table.

    What is inside strings, quotes and comments stays as it is. Raises PermanentError if ``FROM catalogue`` could
    mean several tables.
    """
    tokens = Statement(sql).tokens
    edits: list[tuple[int, int, str]] = []
    for at, token in enumerate(tokens):
        if _name(token) != catalogue.lower() or (at and tokens[at - 1].text == "."):
            continue
        if _chain(tokens, at) >= 3:
            if catalogue.lower() not in map(str.lower, names.schemas()):
                edits.append((token.start, tokens[at + 2].start, ""))
        elif _is_table(tokens, at) and not _is_defined(tokens, catalogue):
            edits += _only_table(tokens, at, catalogue, names.tables())
    for start, end, text in reversed(edits):
        sql = sql[:start] + text + sql[end:]
    return sql


def table_of(sql: str) -> str | None:
    """Return the table that a query reads, if it reads one."""
    tokens = Statement(sql).tokens
    after = [at + 1 for at, token in enumerate(tokens[:-1]) if token.kind == "word" and token.text == "from"]
    if len(after) != 1 or _name(tokens[after[0]]) is None:
        return None
    last = tokens[after[0] + 2 * (_chain(tokens, after[0]) - 1)]
    return sql[tokens[after[0]].start : last.end].replace('"', "")


def _name(token: Token) -> str | None:
    if token.kind == "word":
        return token.text
    return token.text[1:-1].replace('""', '"').lower() if token.kind == "quoted" else None


def _chain(tokens: Sequence[Token], at: int) -> int:
    """Return how many names joined by dots begin here."""
    length = 1
    while at + 2 < len(tokens) and tokens[at + 1].text == "." and (_name(tokens[at + 2]) or tokens[at + 2].text == "*"):
        length, at = length + 1, at + 2
    return length


def _is_table(tokens: Sequence[Token], at: int) -> bool:
    """Whether a name alone stands where a table does."""
    return (
        bool(at)
        and _chain(tokens, at) == 1
        and tokens[at - 1].kind == "word"
        and tokens[at - 1].text in ("from", "join")
    )


def _is_defined(tokens: Sequence[Token], name: str) -> bool:
    """Whether the query itself defines a table of that name: ``WITH flow AS (...)``."""
    triples = zip(tokens, tokens[1:], tokens[2:], strict=False)
    return any(_name(one) == name.lower() and two.text == "as" and three.text == "(" for one, two, three in triples)


def _only_table(
    tokens: Sequence[Token], at: int, catalogue: str, tables: Sequence[tuple[str, str]]
) -> list[tuple[int, int, str]]:
    if any(name.lower() == catalogue.lower() for _, name in tables):
        return []
    if len(tables) != 1:
        found = ", ".join(f"{schema}.{name}" for schema, name in tables) or "none"
        raise PermanentError(f"`FROM {catalogue}` means the only table of the database, which has: {found}; name one")
    following = tokens[at + 1] if at + 1 < len(tokens) else None
    named = following is not None and _name(following) is not None and following.text not in _NO_ALIAS
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in tables[0])
    alias = "" if named else f' AS "{catalogue}"'
    return [(tokens[at].start, tokens[at].end, quoted + alias)]
