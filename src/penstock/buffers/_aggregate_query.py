"""The text and the plan of an aggregate query, taken apart: what it groups by, and which functions it calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..errors import ConfigError
from ..sql.statement import Statement, Token, aggregate_names, unquoted
from ._sketches import check_installed

START, END = "window_start", "window_end"
BOUNDS = (START, END)
PARTS = {
    "count": ("count",),
    "sum": ("sum",),
    "avg": ("sum", "count"),
    "min": ("min",),
    "max": ("max",),
    "first_value": ("first",),
    "last_value": ("last",),
    "approx_distinct": ("distinct",),
    "approx_median": ("quantiles",),
    "approx_percentile_cont": ("quantiles",),
}
"""What is kept of a column for each function that can be computed from partial results."""
_SYNONYMS = {"mean": "avg"}
_QUANTILE = "approx_percentile_cont"


class Call(NamedTuple):
    """An aggregate function and the column that it is applied to; None for rows."""

    function: str
    column: str | None
    share: float | None = None
    """Of all values, those that a quantile is greater than."""

    def write(self) -> str:
        """Return it as SQL."""
        column = "*" if self.column is None else quote_name(self.column)
        return f"{self.function}({column}{'' if self.share is None else f', {self.share!r}'})"


def read_plan(plan: Any) -> tuple[list[str], list[Call]]:
    """Return the columns by which a plan groups and the functions it calls; raises ConfigError where it does more."""
    names = []
    while (name := type(plan.to_variant()).__name__) in ("Sort", "Projection", "Filter"):
        names.append(name)
        (plan,) = plan.inputs()
    if name != "Aggregate" or names.count("Projection") != 1 or names.count("Filter") > 1:
        raise ConfigError("it does not only group and aggregate")
    aggregate = plan.to_variant()
    below = plan.inputs()[0]
    if type(below.to_variant()).__name__ == "Filter":
        (below,) = below.inputs()
    if type(below.to_variant()).__name__ != "TableScan":
        raise ConfigError("it does not read its rows as they are")
    keys = []
    for expression in aggregate.group_by_exprs():
        if expression.variant_name() != "Column":
            raise ConfigError(f"it groups by {expression.canonical_name()}, which is not a column")
        keys.append(expression.to_variant().name())
    return keys, [_read_call(aggregate, expression) for expression in aggregate.aggregate_exprs()]


def _read_call(aggregate: Any, expression: Any) -> Call:
    function, arguments = aggregate.agg_func_name(expression), aggregate.aggregation_arguments(expression)
    written = ", ".join(argument.canonical_name() for argument in arguments)
    before, _, order = expression.canonical_name().partition(" ORDER BY ")
    is_quantile = function == _QUANTILE and len(arguments) == 2 and arguments[1].variant_name() == "Literal"
    is_plain = before == f"{function}({written})" and (is_quantile or (len(arguments) == 1 and not order))
    if function not in PARTS or not is_plain:
        raise ConfigError(f"{expression.canonical_name()} cannot be computed from partial results")
    if function.startswith("approx_"):
        check_installed(function)
    kind = arguments[0].variant_name()
    if kind == "Column" and (name := arguments[0].to_variant().name()) not in BOUNDS:
        share = float(arguments[1].python_value()) if is_quantile else None
        is_falling = share is not None and " DESC " in order
        return Call(function, name, 1 - share if share is not None and is_falling else share)
    if kind == "Literal" and function == "count":
        return Call(function, None)
    raise ConfigError(f"{expression.canonical_name()} is not of a column")


def _read_ordered(function: str, arguments: Sequence[Token], order: Sequence[Token]) -> Call:
    """Return a call with WITHIN GROUP; raises ConfigError if it is of more than a column."""
    names = [token for token in order if token.text not in ("asc", "desc")]
    if len(arguments) != 1 or arguments[0].kind != "number" or not names or len(order) > len(names) + 1:
        raise ConfigError(f"{function} is not of a column")
    share = float(arguments[0].text)
    return Call(function, unquoted(names[-1].text), 1 - share if order[-1].text == "desc" else share)


class QueryText:
    """The text of a query of which the planner has said what it is."""

    def __init__(self, sql: str) -> None:
        self._statement = Statement(sql)
        self._sql, self._tokens = self._statement.sql.rstrip().rstrip(";"), self._statement.tokens
        self._calls = list(self._find_calls())
        self.found = [call for call, _, _ in self._calls]
        where, end = self._clause("where"), self._end_of_condition()
        self._cut = (where.start, end) if where is not None else None
        self.condition = self._sql[where.end : end].strip() if where is not None else None
        if self.condition is not None and not {START, END}.isdisjoint(Statement(self.condition).words):
            raise ConfigError("its condition is on the window, which rows do not have yet")

    def _find_calls(self) -> Iterator[tuple[Call, int, int]]:
        """Yield each call of an aggregate function, with where it begins and ends."""
        names = {token.start for token, _ in self._statement.calls(aggregate_names())}
        for at, token in enumerate(self._tokens):
            if token.start not in names:
                continue
            closing = self._find_closing(at + 1)
            arguments = list(self._tokens[at + 2 : closing])
            if [one.text for one in self._tokens[closing + 1 : closing + 3]] == ["within", "group"]:
                opening, closing = closing + 3, self._find_closing(closing + 3)
                order = self._tokens[opening + 3 : closing]  # behind ORDER BY
                yield _read_ordered(token.text, arguments, order), token.start, self._tokens[closing].end
                continue
            share = None
            if token.text == _QUANTILE and len(arguments) > 2 and arguments[-1].kind == "number":
                *arguments, _, number = arguments
                share = float(number.text)
            last = arguments[-1] if arguments else None
            column = unquoted(last.text) if last is not None and last.kind in ("word", "quoted") else None
            function = _SYNONYMS.get(token.text, token.text)
            yield Call(function, column, share), token.start, self._tokens[closing].end

    def _find_closing(self, opening: int) -> int:
        depth, closing = 0, opening
        for closing in range(opening, len(self._tokens)):
            depth += (self._tokens[closing].text == "(") - (self._tokens[closing].text == ")")
            if depth == 0:
                break
        return closing

    def _clause(self, word: str) -> Token | None:
        depth, before = 0, ""
        for token in self._tokens:
            if token.kind == "symbol":
                depth += (token.text in "([") - (token.text in ")]")
            if depth == 0 and token.kind == "word" and token.text == word and before != "within":
                return token
            before = token.text
        return None

    def _end_of_condition(self) -> int:
        found = [self._clause(word) for word in ("group", "having", "order")]
        return min((token.start for token in found if token is not None), default=len(self._sql))

    def final(self, calls: Sequence[Call], names: set[str]) -> str:
        """Return the query over one row for each group, with the window in its result and among its groups."""
        source, group = self._clause("from"), self._clause("group")
        assert source is not None
        bounds = ", ".join(f'"{name}"' for name in BOUNDS)
        selected = "".join(f', "{name}"' for name in BOUNDS if name not in names)
        edits = [(start, end, f'first_value("__{calls.index(call)}")') for call, start, end in self._calls]
        edits.append((source.start, source.start, f"{selected} "))
        if self._cut is not None:
            edits = [edit for edit in edits if not self._cut[0] <= edit[0] < self._cut[1]]
            edits.append((*self._cut, ""))
        if group is not None:
            by = next(token for token in self._tokens if token.start > group.start)
            edits.append((by.end, by.end, f" {bounds},"))
        else:
            edits.append((self._end_of_condition(), self._end_of_condition(), f" GROUP BY {bounds} "))
        sql = self._sql
        for start, end, text in sorted(edits, key=lambda edit: (edit[0], edit[1]), reverse=True):
            sql = f"{sql[:start]}{text}{sql[end:]}"
        return sql


def quote_name(name: str) -> str:
    """Return a name as SQL writes it in quotes."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
