"""What can be told from the text of a query alone: its words, the columns it may read, whether it works row by row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from .. import udf

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|/\*.*?\*/)
  | (?P<string>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
  | (?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`)
  | (?P<number>\d[\d.]*[eE][+-]\d+|\d[\w.]*)
  | (?P<word>(?:[^\W\d]|[@\#])[\w@$\#]*)
  | (?P<symbol>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def words(text: str) -> frozenset[str]:
    """Return the words of a text, as a set."""
    return frozenset(text.split())


_KEYWORDS = words(
    "select from where group by order having limit as and or not case when then else end is null in between like on"
    " join left right inner outer union all distinct over partition asc desc"
)
_STARTS = words("select with values from")
_SET_WORDS = words(
    "distinct group having order limit offset fetch top union intersect join cross natural over window qualify "
    "lateral tablesample sort cluster distribute with values table unnest pivot unpivot match_recognize"
)
"""Words by which a row of the result may depend on more than one row."""
_SET_WORDS_OF_ONE = words("distinct group having order limit offset")
"""Those by which its rows are still those of one table."""
_AFTER_SOURCE = words("where group having order limit offset ;")
_AFTER_STAR = words("from where exclude except replace rename ilike as into order group limit union")
_BEFORE_STAR = words("select distinct all returning by on then else when and or not case")
_UNSTABLE = words(
    "now today current_date current_time current_timestamp localtime localtimestamp random rand uuid "
    "input_file_name file_row_index"
)
"""Functions whose value is fixed when the query is planned, or differs at each call."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word, quoted name, string, number or symbol of a query; ``text`` is lower case for words."""

    kind: str
    text: str
    start: int
    end: int


@lru_cache(maxsize=1)
def aggregate_names() -> frozenset[str]:
    """Return the names of the functions that look at more than one row."""
    from datafusion import SessionContext

    session = SessionContext()
    return frozenset(session.udafs()) | frozenset(session.udwfs())


def _is_aggregate(name: str) -> bool:
    own = udf.functions().get(name)
    return own.kind != "scalar" if own is not None else name in aggregate_names()


class Statement:
    """The text of one query, in tokens."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.tokens = tuple(_tokens(sql))

    @cached_property
    def words(self) -> frozenset[str]:
        """All unquoted words, in lower case."""
        return frozenset(token.text for token in self.tokens if token.kind == "word")

    @cached_property
    def doubtful(self) -> bool:
        """Whether the text may mean something else to the parser than it does here."""
        glued = any(
            left.kind == "word" and right.kind in ("string", "quoted") and left.end == right.start
            for left, right in self._pairs()
        )
        stray = any(token.kind == "symbol" and token.text in "'\"`$\\#" for token in self.tokens)
        comments = "/*" in self.sql and self.sql.count("/*") != self.sql.count("*/")
        return glued or stray or comments

    def is_query(self) -> bool:
        """Tell whether it begins like a query."""
        first = next((token.text for token in self.tokens if token.text != "("), "")
        return first in _STARTS

    def is_unstable(self) -> bool:
        """Tell whether two runs of one plan over the same rows may have to differ: it reads the clock or chance."""
        return not self.words.isdisjoint(_UNSTABLE)

    def row_wise(self, table: str) -> bool:
        """Tell whether it surely is one projection or filter of the table, so that each row is worked on by itself."""
        if self.doubtful or self.tokens[0].text != "select" or not self.words.isdisjoint(_SET_WORDS):
            return False
        for left, right in self._pairs():
            several = right.text == "select" or (left.text == "(" and right.text == "from")
            minus = right.text == "except" and left.text != "*"
            pipe = left.text == "|" and right.text == ">"
            aggregate = right.text == "(" and left.kind != "string" and _is_aggregate(_name(left.text))
            if several or minus or pipe or aggregate:
                return False
        return self._reads_only(table)

    def reads_one_table(self, table: str) -> bool:
        """Tell whether it surely is one query over the table, so that a name is that of a column or an alias."""
        if self.doubtful or self.tokens[0].text != "select" or "|>" in self.sql:
            return False
        times = Counter(token.text for token in self.tokens if token.kind == "word")
        is_one = times["select"] == times["from"] == 1 and self.words.isdisjoint(_SET_WORDS - _SET_WORDS_OF_ONE)
        return is_one and self._reads_only(table)

    def aliases(self) -> frozenset[str]:
        """Return, in lower case, a superset of the names that it gives to anything."""
        return frozenset(
            _name(right.text)
            for left, right in self._pairs()
            if right.kind in ("word", "quoted") and (left.text == "as" or _ends_operand(left))
        )

    def _reads_only(self, table: str) -> bool:
        """Whether the FROM clause is the table, with or without another name for it."""
        depth = 0
        source: list[Token] | None = None
        for token in self.tokens:
            if token.kind == "symbol":
                depth += (token.text in "([") - (token.text in ")]")
            if depth == 0 and source is not None and token.text in _AFTER_SOURCE:
                break
            if source is not None:
                source.append(token)
            elif depth == 0 and token.kind == "word" and token.text == "from":
                source = []
        if not source or len(source) > 3 or any(token.kind not in ("word", "quoted") for token in source):
            return False
        return _name(source[0].text) == table.lower()

    def _pairs(self) -> Iterator[tuple[Token, Token]]:
        return zip(self.tokens, self.tokens[1:], strict=False)

    def columns_read(self) -> frozenset[str] | None:
        """Return a superset of the columns it can read; None if that cannot be told.

        Names are in lower case; quoted ones also as they are written.
        """
        if self.doubtful or "natural" in self.words or self._selects_all():
            return None
        quoted = {unquoted(token.text) for token in self.tokens if token.kind == "quoted"}
        return self.words | quoted | {name.lower() for name in quoted}

    def selecting(self, names: Iterable[str]) -> str:
        """Return the query with these columns selected too, unless they are; only for one that is row-wise."""
        if self._selects_all():
            return self.sql
        depth, at = 0, len(self.sql)
        selected: set[str] = set()
        for before, token, after in zip(self.tokens, self.tokens[1:], self.tokens[2:], strict=False):
            if token.kind == "symbol":
                depth += (token.text in "([") - (token.text in ")]")
            if depth == 0 and token.kind == "word" and token.text == "from":
                at = token.start
                break
            if depth == 0 and before.text in ("select", ",") and after.text in ("from", ","):
                selected.add(unquoted(token.text) if token.kind == "quoted" else token.text)
        more = "".join(f', "{name}"' for name in names if name not in selected)
        return f"{self.sql[:at].rstrip()}{more} {self.sql[at:]}"

    def repeated(self) -> frozenset[str]:
        """Return the names that stand in the text more than once, in lower case and as written, keywords left out.

        An alias that is used is among them, with or without AS.
        """
        names = [
            unquoted(t.text) if t.kind == "quoted" else t.text for t in self.tokens if t.kind in ("word", "quoted")
        ]
        times = Counter(name.lower() for name in names)
        again = {name for name in names if times[name.lower()] > 1 and name not in _KEYWORDS}
        return frozenset(again | {name.lower() for name in again})

    def _selects_all(self) -> bool:
        """Whether there is a star that may stand for columns, or a FROM without a SELECT."""
        edge = Token("edge", "", 0, 0)
        around = zip(
            (edge, edge, *self.tokens), (edge, *self.tokens), self.tokens, (*self.tokens[1:], edge), strict=False
        )
        for before, left, token, right in around:
            if token.kind == "word" and token.text == "from":
                alone = left.text in ("", "(", "union", "all", "except", "intersect", "distinct", ";")
                if alone or (left.text == ")" and "with" in self.words):
                    return True
            if token.text == "*" and token.kind == "symbol" and not _is_no_star(before, left, right):
                return True
        return False

    def calls(self, names: frozenset[str]) -> list[tuple[Token, int]]:
        """Return the calls of any of the functions, with how many arguments each has."""
        found = []
        for at, token in enumerate(self.tokens[:-1]):
            if token.kind == "word" and token.text in names and self.tokens[at + 1].text == "(":
                found.append((token, self._arguments(at + 1)))
        return found

    def _arguments(self, opening: int) -> int:
        depth, count, empty = 0, 1, True
        for token in self.tokens[opening:]:
            if token.kind == "symbol" and token.text in "([{":
                depth += 1
            elif token.kind == "symbol" and token.text in ")]}":
                depth -= 1
                if depth == 0:
                    return 0 if empty else count
            elif token.kind == "symbol" and token.text == "," and depth == 1:
                count += 1
            if token is not self.tokens[opening]:
                empty = False
        return count


def split(sql: str) -> list[str]:
    """Return the statements of a text, which semicolons part; the text itself if there is only one."""
    statement = Statement(sql)
    ends = [token for token in statement.tokens if token.kind == "symbol" and token.text == ";"]
    parts = [
        sql[start:end]
        for start, end in zip(
            [0, *(token.end for token in ends)], [*(token.start for token in ends), len(sql)], strict=True
        )
    ]
    found = [part for part in parts if Statement(part).tokens]
    return found if len(found) > 1 else [sql]


def check_expression(sql: str) -> None:
    """Raise ValueError unless the text can be put in brackets as one expression that is computed for each row."""
    statement = Statement(sql)
    depth = 0
    if not statement.tokens:
        raise ValueError("expected an SQL expression, not an empty text")
    for token in statement.tokens:
        if token.kind != "symbol":
            continue
        depth += (token.text in "([{") - (token.text in ")]}")
        if depth < 0:
            raise ValueError(f"closing {token.text!r} at character {token.start + 1} was never opened, in {sql!r}")
        if token.text == ";" or (token.text == "," and depth == 0):
            raise ValueError(f"expected one SQL expression, found {token.text!r} in {sql!r}")
    own = frozenset(name for name in udf.functions() if _is_aggregate(name))
    aggregates = sorted(name.text for name, _ in statement.calls(aggregate_names() | own))
    if aggregates and "over" not in statement.words and "select" not in statement.words:
        raise ValueError(f"{aggregates[0]}() needs many rows, but this expression is computed for each row: {sql!r}")


def _tokens(sql: str) -> Iterator[Token]:
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or "symbol"
        kind = "string" if kind == "tag" else kind
        if kind != "space":
            text = match[0].lower() if kind == "word" else match[0]
            yield Token(kind, text, match.start(), match.end())


def unquoted(text: str) -> str:
    """Return what a name in quotes names; any other text as it is."""
    quote = text[0]
    return text[1:-1].replace(quote * 2, quote) if quote in '"`' else text


def _ends_operand(token: Token) -> bool:
    if token.kind == "word":
        return token.text == "end" or token.text not in _KEYWORDS
    return token.kind != "symbol" or token.text in ")]}"


def _name(text: str) -> str:
    """Return what a word or a quoted name names, in lower case."""
    return unquoted(text).lower()


def _is_no_star(before: Token, left: Token, right: Token) -> bool:
    """Whether the ``*`` between these tokens is surely a multiplication, or that of ``count(*)``."""
    if left.text == "(" and right.text == ")":
        return before.text == "count"
    operand = left.kind in ("quoted", "number", "string") or left.text in (")", "]")
    operand = operand or (left.kind == "word" and left.text not in _BEFORE_STAR)
    follows = right.kind in ("quoted", "number", "string") or right.text in ("(", "-", "+")
    follows = follows or (right.kind == "word" and right.text not in _AFTER_STAR)
    return operand and follows
