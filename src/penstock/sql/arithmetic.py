"""Finds the arithmetic in the text of a query: which operations there are, and what each of them is applied to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from .statement import Statement, Token

_PRECEDENCE = {"*": 40, "/": 40, "%": 40, "||": 40, "+": 30, "-": 30, "&": 23, "^": 22, "<<": 22, ">>": 22, "|": 21}
_UNARY_PRECEDENCE = 40


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CLOSING = {"(": ")", "[": "]", "{": "}"}
_CHECKED = frozenset({"+", "-", "*", "<<", ">>"})
_AGGREGATES = frozenset({"sum", "avg", "mean"})
TIME_FUNCTIONS = frozenset({"date_trunc", "datetrunc", "date_bin", "date_part", "datepart", "extract"})
"""Functions that wrap around, or give null, for times whose result they cannot express."""
CASTS = frozenset({"cast", "try_cast", "arrow_cast"})
"""To fractions they give infinity for what is too large, and zero for what is too small."""
_FRACTIONS = frozenset({"double", "float", "real", "float4", "float8"})
_BEFORE_OPERAND = _words(
    "select distinct all where when then else and or not in between is by on having returning qualify for from end"
    " union except intersect"
)
"""Words that are no operand, so that a sign behind them belongs to what follows."""
_AFTER_STAR = _words("from where exclude except replace rename ilike as into order group limit union")
_MAX_UNSIGNED = 2**64 - 1
_MIN_SIGNED = -(2**63)
_MAX_DIGITS = 76
_UNITS = _words(
    "year years month months week weeks day days hour hours minute minutes second seconds millisecond milliseconds"
    " microsecond microseconds nanosecond nanoseconds"
)
_OF_TYPES = _words("precision varying unsigned with without time zone")


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation in the text: what it is, where it begins and ends, and where its operands do.

    ``kind`` is the operator, ``negate`` for a sign, or the name of an aggregate, whose operand is its argument, of a
    function of times, whose operand is the time, or of a cast, whose operand is what it takes.
    """

    kind: str
    start: int
    end: int
    operands: tuple[tuple[int, int], ...]


def operations(statement: Statement) -> list[Operation]:
    """Return the operations of a query that may overflow, each behind those that are part of it."""
    names = _AGGREGATES | TIME_FUNCTIONS | _FRACTIONS | {"arrow_cast"}
    if not any(token.text in ("+", "-", "*", "<", ">") or token.text in names for token in statement.tokens):
        return []
    reading = _Reading(statement.tokens)
    reading.sequence(0, "")
    return reading.found


@dataclass(frozen=True, slots=True)
class Wrapping:
    """What is written around an operation and its operands; ``between`` takes the place of the operator."""

    before: str = "("
    after: str = ")"
    between: str | None = None
    around_operands: tuple[tuple[str, str], ...] = ()


def wrapped(text: str, wrappings: Iterable[tuple[Operation, Wrapping]]) -> str:
    """Return the text with these operations wrapped; the inner ones come first."""
    edits = []
    for depth, (operation, wrapping) in enumerate(wrappings):
        first, last = operation.operands[0], operation.operands[-1]
        sign = operation.kind == "negate" and wrapping.between is not None
        # At one place, what ends comes before what begins; the inner ends and the outer begins first.
        edits.append(((operation.start, 1, -2 * depth), first[0] if sign else operation.start, wrapping.before))
        edits.append(((operation.end, 0, 2 * depth), operation.end, wrapping.after))
        for (start, end), (opening, closing) in zip(operation.operands, wrapping.around_operands, strict=False):
            edits.append(((start, 1, 1 - 2 * depth), start, opening))
            edits.append(((end, 0, 2 * depth - 1), end, closing))
        if first != last and wrapping.between is not None:
            edits.append(((first[1], 2, depth), last[0], wrapping.between))
    pieces, at = [], 0
    for (start, _, _), end, piece in sorted(edits):
        pieces += [text[at:start], piece]
        at = end
    return "".join([*pieces, text[at:]])


def with_exact_integers(sql: str) -> str:
    """Return the query with the whole numbers that DataFusion would read as rounded fractions written as decimals.

    Raises ConfigError for fractions that it would read as infinity or zero.
    """
    pieces, at, sign = [], 0, False
    for token in Statement(sql).tokens:
        if token.kind == "number" and token.text.isdecimal():
            value = int(token.text)
            rounded = value > _MAX_UNSIGNED or (sign and -value < _MIN_SIGNED)
            if rounded and len(str(value)) <= _MAX_DIGITS:
                pieces += [sql[at : token.start], f"CAST('{value}' AS DECIMAL({len(str(value))}, 0))"]
                at = token.end
        elif token.kind == "number" and _is_out_of_range(token.text):
            raise ConfigError(f"the number {token.text} is out of range of a 64-bit fraction")
        sign = token.text == "-"
    return "".join([*pieces, sql[at:]])


def _is_out_of_range(number: str) -> bool:
    try:
        value = float(number)
    except ValueError:  # that it is no number DataFusion says better
        return False
    return value == float("inf") or (value == 0 and any(digit in "123456789" for digit in number.lower().split("e")[0]))


class _Reading:
    """Reads tokens as the parser of DataFusion does, as far as arithmetic is concerned."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self.found: list[Operation] = []

    def sequence(self, at: int, closing: str) -> int:
        """Read expressions and whatever stands between them; return where what closes the sequence ends."""
        while at < len(self._tokens):
            if self._tokens[at].text == closing:
                return at + 1
            if self._is_glued(at, "->"):
                at += 2
            else:
                at = self._expression(at, 0) if self._begins_operand(at) else at + 1
        return at

    def _expression(self, at: int, above: int) -> int:
        """Read operands joined by operators that bind more tightly than ``above``; return where they end."""
        start, at = at, self._operand(at)
        while operator := self._operator(at):
            precedence, behind = _PRECEDENCE[operator], at + len(operator)
            if precedence <= above or not self._begins_operand(behind):
                break
            left = self._span(start, at)
            at = self._expression(behind, precedence)
            if operator in _CHECKED:
                right = self._span(behind, at)
                self.found.append(Operation(operator, left[0], right[1], (left, right)))
        return at

    def _operand(self, at: int) -> int:
        token = self._tokens[at]
        if token.text in ("-", "+") and token.kind == "symbol":
            end = self._expression(at + 1, _UNARY_PRECEDENCE) if self._begins_operand(at + 1) else at + 1
            if token.text == "-" and end > at + 1 and not (end == at + 2 and self._tokens[at + 1].kind == "number"):
                operand = self._span(at + 1, end)
                self.found.append(Operation("negate", token.start, operand[1], (operand,)))
            return end
        if token.kind == "symbol":
            closing = _CLOSING.get(token.text)
            return self._suffixes(at, self.sequence(at + 1, closing) if closing else at + 2)
        if token.kind != "word":
            return self._suffixes(at, self._called(at))
        if token.text == "case":
            return self._suffixes(at, self.sequence(at + 1, "end"))
        if token.text == "interval" and self._begins_operand(at + 1):
            at = self._operand(at + 1)
            while self._text(at) in _UNITS or self._text(at) == "to":
                at += 1
            return at
        if at + 1 < len(self._tokens) and self._tokens[at + 1].kind == "string":
            return self._suffixes(at, at + 2)
        return self._suffixes(at, self._called(at))

    def _called(self, at: int) -> int:
        """Read a name, and the arguments if it is that of a function."""
        if self._text(at + 1) != "(":
            return at + 1
        end = self.sequence(at + 2, ")")
        if self._tokens[at].text in _AGGREGATES and end > at + 3:
            first = at + 3 if self._text(at + 2) in ("distinct", "all") else at + 2
            behind = self._behind_aggregate(end)
            argument = self._span(first, end - 1)
            self.found.append(
                Operation(self._tokens[at].text, self._tokens[at].start, self._span(at, behind)[1], (argument,))
            )
            return behind
        if self._tokens[at].text in TIME_FUNCTIONS and (time := self._time_of(at + 2, end - 1)) is not None:
            self.found.append(
                Operation(self._tokens[at].text, self._tokens[at].start, self._span(at, end)[1], (self._span(*time),))
            )
        if self._tokens[at].text in CASTS and (value := self._cast_of(at + 2, end - 1)) is not None:
            self._add_cast(self._tokens[at].text, at, end, value, value[1] + 1)
        return end

    def _cast_of(self, at: int, end: int) -> tuple[int, int] | None:
        """Return where what is cast begins and ends among the arguments."""
        depth, behind = 0, None
        for place in range(at, end):
            text = self._tokens[place].text
            depth += (text in _CLOSING) - (text in _CLOSING.values())
            if depth == 0 and text in ("as", ","):
                behind = place
        return (at, behind) if behind is not None and behind > at else None

    def _add_cast(self, kind: str, start: int, behind: int, value: tuple[int, int], to: int) -> None:
        if kind == "arrow_cast" or self._text(to) in _FRACTIONS:
            operand = self._span(*value)
            self.found.append(Operation(kind, self._tokens[start].start, self._span(start, behind)[1], (operand,)))

    def _time_of(self, at: int, end: int) -> tuple[int, int] | None:
        """Return where the time begins and ends among the arguments of a function of times."""
        depth, begins = 0, list[int]()
        for place in range(at, end):
            text = self._tokens[place].text
            depth += (text in _CLOSING) - (text in _CLOSING.values())
            if depth == 0 and text in (",", "from"):
                begins.append(place + 1)
        if not begins:
            return None
        behind = begins[1] - 1 if len(begins) > 1 else end
        return (begins[0], behind) if behind > begins[0] else None

    def _behind_aggregate(self, at: int) -> int:
        while True:
            word, following = self._text(at), self._text(at + 1)
            if word == "filter" and following == "(":
                at = self.sequence(at + 2, ")")
            elif word == "within" and following == "group":
                at = self.sequence(at + 3, ")")
            elif word in ("ignore", "respect") and following == "nulls":
                at += 2
            elif word == "over":
                return self.sequence(at + 2, ")") if following == "(" else at + 2
            else:
                return at

    def _suffixes(self, start: int, at: int) -> int:
        """Read what belongs to the operand that begins at ``start`` and ends here."""
        while True:
            before, at = at, self._behind_aggregate(at)
            text = self._text(at)
            if text == "[":
                at = self.sequence(at + 1, "]")
            elif text == ".":
                at = self._called(at + 1) if self._text(at + 1) != "*" else at + 2
            elif self._is_glued(at, "::"):
                behind = self._type(at + 2)
                self._add_cast("cast", start, behind, (start, at), at + 2)
                at = behind
            elif text == "at" and (self._text(at + 1), self._text(at + 2)) == ("time", "zone"):
                at = self._operand(at + 3) if self._begins_operand(at + 3) else at + 3
            elif text == "collate":
                at += 2
            if at == before:
                return at

    def _type(self, at: int) -> int:
        at += 1
        while True:
            if self._text(at) == "(":
                at = self.sequence(at + 1, ")")
            elif self._text(at) in _OF_TYPES:
                at += 1
            else:
                return at

    def _operator(self, at: int) -> str | None:
        """Return the operator that stands here between two operands."""
        if self._is_glued(at, "->") or at >= len(self._tokens) or self._tokens[at].kind != "symbol":
            return None
        for operator in ("||", "<<", ">>"):
            if self._is_glued(at, operator):
                return operator
        text = self._tokens[at].text
        return text if text in _PRECEDENCE and not self._is_glued(at, "|>") else None

    def _begins_operand(self, at: int) -> bool:
        if at >= len(self._tokens):
            return False
        token = self._tokens[at]
        if token.kind == "symbol":
            number = token.text == "." and at + 1 < len(self._tokens) and self._tokens[at + 1].kind == "number"
            return number or token.text in ("(", "[", "{", "-", "+")
        if token.kind == "word" and at and self._tokens[at - 1].text == "*" and token.text in _AFTER_STAR:
            return False
        return token.kind != "word" or token.text not in _BEFORE_OPERAND

    def _is_glued(self, at: int, symbols: str) -> bool:
        """Whether these symbols stand here with nothing between them."""
        found = self._tokens[at : at + len(symbols)]
        whole = [token.text for token in found] == list(symbols) and all(token.kind == "symbol" for token in found)
        return whole and found[-1].end - found[0].start == len(symbols)

    def _text(self, at: int) -> str:
        return self._tokens[at].text if at < len(self._tokens) else ""

    def _span(self, first: int, behind: int) -> tuple[int, int]:
        behind = min(behind, len(self._tokens))
        return self._tokens[first].start, self._tokens[behind - 1].end
