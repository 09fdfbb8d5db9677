"""Make programs of VRL fail where an integer of 64 bits would wrap around.

The library wraps without a word and has no option for it. So each operation whose operands can be told from the text
becomes a block that computes it once more, looks at the signs and fails. What the program says of errors (``??``,
``, err =``) holds for this one too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Set
from typing import NamedTuple

from .tokens import Token, tokens

MAX_OPERATIONS = 64
"""How many operations of a program are checked; each makes it longer."""

_OPERATORS = frozenset("+-*")
_STATEMENTS = frozenset(["if", "else", "abort", "return"])
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_SAID = re.compile(r"overflow: ((?:-?\d+ [-+*] -?\d+|\w+ of \S+) is out of range of int64)")
_FITS = {
    "+": "({a} < 0) != ({b} < 0) || ({s} < 0) == ({a} < 0)",
    "-": "({a} < 0) == ({b} < 0) || ({s} < 0) == ({a} < 0)",
    # What wrapped differs by a multiple of 2^64, what did not by less than a fraction rounds.
    "*": "abs(to_float({a}) * to_float({b}) - to_float({s})) < 9223372036854775808.0",
}
_BLOCK = (
    "{{ {l} = {left}; {r} = {right}; if is_integer({l}) && is_integer({r}) {{"
    " {a} = int!(get!([{l}], [0])); {b} = int!(get!([{r}], [0])); {s} = {a} {operator} {b};"
    ' if !({fits}) {{ assert!(false, message: "overflow: " + to_string({a}) + " {operator} " + to_string({b})'
    ' + " is out of range of int64") }} }}; {l} {operator} {r} }}'
)
"""The operands get their types back as those of an element of an array, of which the compiler knows nothing."""
_FUNCTIONS = {
    "to_int": ("float", "{a} >= -9223372036854775808.0 && {a} < 9223372036854775808.0"),
    "abs": ("int", "{a} >= 0 || 0 - {a} > 0"),
}
"""Functions that return the nearest integer, each with the type of argument that is looked at and what fits."""
_CALL = (
    "{{ {l} = {argument}; if {test}({l}) {{ {a} = {kind}!(get!([{l}], [0]));"
    ' if !({fits}) {{ assert!(false, message: "overflow: {name} of " + to_string({a})'
    ' + " is out of range of int64") }} }}; {call}({l}) }}'
)


class Checked(NamedTuple):
    """A program whose operations are checked, and where these are in the text as it was written."""

    text: str
    operations: Sequence[int]


def checked(text: str, only: Set[int] | None = None) -> Checked:
    """Return the program with its operations checked: those at ``only``, else all whose operands can be told."""
    rewriting = _Rewriting(text, only)
    return Checked(rewriting.whole(), rewriting.found)


def overflow_in(said: str) -> str | None:
    """Return what is out of range, from the message of a checked program that failed; None if it failed otherwise."""
    found = _SAID.search(said)
    return f"overflow: {found[1]}" if found else None


class _Rewriting:
    """Read a program from left to right: brackets, operands and what stands between them."""

    def __init__(self, text: str, only: Set[int] | None) -> None:
        self._text, self._only = text, only
        self._tokens = list(tokens(text))
        self._at = 0
        self._prefix = "checked"
        while self._prefix in text:
            self._prefix += "_"
        self.found: list[int] = []

    def whole(self) -> str:
        made = self._until(None)
        return made + self._text[self._tokens[-1].end :] if self._tokens else self._text

    def _until(self, closing: str | None) -> str:
        """Return all up to a closing bracket, and that."""
        parts = []
        while (token := self._next) is not None and token.text != closing:
            parts.append(self._gap())
            if self._begins_operand() and token.text != "{":
                parts.append(self._sum())
            elif token.text in _CLOSING:
                parts.append(self._bracket())
            else:
                parts.append(self._take())
        return "".join(parts) + (self._gap() + self._take() if self._next is not None else "")

    def _sum(self) -> str:
        left = self._product()
        while self._is_operator("+-"):
            left = self._operation(left, self._product)
        return left

    def _product(self) -> str:
        left = self._operand()
        while self._is_operator("*/"):
            left = self._operation(left, self._operand)
        return left

    def _operation(self, left: str, read: Callable[[], str]) -> str:
        gap, start, operator, behind = self._gap(), self._at_start(), self._take(), self._gap()
        if not self._begins_operand():
            return left + gap + operator + behind
        right = read()
        if operator not in _OPERATORS or not self._is_wanted(start):
            return left + gap + operator + behind + right
        names = self._names(start)
        fits = _FITS[operator].format(**names)
        return _BLOCK.format(left=left, right=right, operator=operator, fits=fits, **names)

    def _checked_call(self, name: str, call: str, argument: str, start: int) -> str:
        kind, condition = _FUNCTIONS[name]
        names = self._names(start)
        test = {"float": "is_float", "int": "is_integer"}[kind]
        fits = condition.format(**names)
        return _CALL.format(argument=argument, test=test, kind=kind, name=name, call=call, fits=fits, **names)

    def _is_wanted(self, start: int) -> bool:
        return (self._only is None or start in self._only) and len(self.found) < MAX_OPERATIONS

    def _names(self, start: int) -> dict[str, str]:
        """Note the operation, and return names for its values that the program does not have."""
        self.found.append(start)
        return {name: f"{self._prefix}_{len(self.found)}{name}" for name in "lrabs"}

    def _operand(self) -> str:
        token = self._next
        assert token is not None
        if token.text == "!":
            return self._take() + self._gap() + (self._operand() if self._begins_operand() else "")
        if token.text == "-":
            return self._take() + self._take()
        if token.text in _CLOSING:
            made = self._bracket()
        else:
            made = self._take()
            if token.kind == "word":
                made = self._call(made, token.start)
        return made + self._path()

    def _call(self, name: str, start: int) -> str:
        """Return a name with what is behind it, where that is the name of a function."""
        made = name + (self._take() if self._touches("!") and self._peek(1) == "(" else "")
        if not self._touches("("):
            return made
        brackets = self._bracket()
        if name in _FUNCTIONS and self._is_wanted(start):
            return self._checked_call(name, made, re.sub(r"^\s*value\s*:", "", brackets[1:-1]), start)
        made += brackets
        if self._next is not None and self._text.startswith("->", self._next.start):
            while self._next is not None and self._next.text != "{":
                made += self._gap() + self._take()
            made += self._gap() + (self._bracket() if self._next is not None else "")
        return made

    def _path(self) -> str:
        """Return the rest of a path: all that follows without a space."""
        made = ""
        while (token := self._next) is not None and self._is_behind(token):
            if token.text == "[" or (token.text == "(" and self._tokens[self._at - 1].text == "."):
                made += self._bracket()
            elif token.text in (".", "@") or self._tokens[self._at - 1].text in (".", "@", "%"):
                made += self._take()
            else:
                break
        return made

    def _bracket(self) -> str:
        opening = self._take()
        return opening + self._until(_CLOSING[opening])

    def _begins_operand(self) -> bool:
        token = self._next
        if token is None:
            return False
        if token.kind in ("string", "number") or token.text in _CLOSING or token.text in (".", "!", "%"):
            return True
        if token.text == "-":
            return self._text[token.end : token.end + 1].isdigit()
        return token.kind == "word" and token.text not in _STATEMENTS

    def _is_operator(self, which: str) -> bool:
        token = self._next
        behind = self._text[token.end : token.end + 1] if token is not None else ""
        return (
            token is not None
            and token.text in which
            and not (token.text == "-" and (behind == ">" or behind.isdigit()))
        )

    @property
    def _next(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _peek(self, further: int) -> str:
        at = self._at + further
        return self._tokens[at].text if at < len(self._tokens) else ""

    def _touches(self, text: str) -> bool:
        return self._next is not None and self._next.text == text and self._is_behind(self._next)

    def _is_behind(self, token: Token) -> bool:
        return self._at > 0 and self._tokens[self._at - 1].end == token.start

    def _at_start(self) -> int:
        return self._tokens[self._at].start

    def _gap(self) -> str:
        """Return what stands before the next token: spaces, comments and the ends of lines."""
        if self._next is None:
            return ""
        return self._text[self._tokens[self._at - 1].end if self._at else 0 : self._next.start]

    def _take(self) -> str:
        token = self._tokens[self._at] if self._at < len(self._tokens) else None
        self._at += 1
        return token.text if token is not None else ""
