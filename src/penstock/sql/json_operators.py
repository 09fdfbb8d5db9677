"""The operators ``->`` and ``->>``, which the query engine parses but cannot run, as calls of the JSON functions.

As in PostgreSQL they bind more tightly than comparison and arithmetic, and less tightly than ``::``: in
``payload->>'n'::int`` it is the key that is cast, so that people write ``(payload->>'n')::int``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConfigError
from .json_functions import MAX_PATH_LENGTH
from .statement import Statement, Token, words

_AS_JSON, _AS_TEXT = "json_get_json", "json_as_text"
_CLOSING, _OPENING = {")": "(", "]": "["}, {"(": ")", "[": "]"}
_NO_OPERAND = words(
    "select distinct all where on having when then else and or not in by case from as values like between is"
)
"""Words that name no value and, before a bracket, no function."""


def with_json_functions(sql: str) -> str:
    """Return a query with a call in the place of each JSON operator; raises ConfigError where an operand is missing."""
    while True:
        tokens = Statement(sql).tokens
        at = next((at for at in range(1, len(tokens)) if _width(tokens, at)), None)
        if at is None:
            return sql
        sql = _without_first(sql, tokens, at)


def _without_first(sql: str, tokens: Sequence[Token], at: int) -> str:
    """Replace the operators of the first path by one call for each part that the function takes at once."""
    start = _operand_start(sql, tokens, at)
    text = sql[tokens[start].start : tokens[at - 1].end]
    keys: list[str] = []
    as_text, end = False, tokens[at - 1].end
    while at < len(tokens) and (width := _width(tokens, at)) and not as_text:
        stop = _operand_stop(sql, tokens, at + width)
        keys.append(sql[tokens[at + width].start : tokens[stop - 1].end])
        as_text, end, at = width == len("->>"), tokens[stop - 1].end, stop
    while len(keys) > MAX_PATH_LENGTH:
        text, keys = _call(_AS_JSON, text, keys[:MAX_PATH_LENGTH]), keys[MAX_PATH_LENGTH:]
    return sql[: tokens[start].start] + _call(_AS_TEXT if as_text else _AS_JSON, text, keys) + sql[end:]


def _call(name: str, text: str, keys: Sequence[str]) -> str:
    return f"{name}({', '.join([text, *keys])})"


def _width(tokens: Sequence[Token], at: int) -> int:
    """Return of how many characters the operator is that begins with this token; 0 if none does."""
    signs = tokens[at : at + 3]
    glued = [sign.text for step, sign in enumerate(signs) if sign.start == signs[0].start + step]
    return 3 if glued == ["-", ">", ">"] else 2 if glued[:2] == ["-", ">"] else 0


def _operand_start(sql: str, tokens: Sequence[Token], at: int) -> int:
    """Return the first token of the operand that ends before ``at``: a name, text, number, call or bracket."""
    first = at - 1
    while tokens[first].text in _CLOSING and tokens[first].kind == "symbol":
        first = _matching(sql, tokens, first)
        if first == 0 or not (tokens[first].text == "[" or _is_called(tokens[first - 1])):
            break
        first -= 1
    if not _is_operand(tokens[first], "("):
        raise _missing(sql, tokens, at, "before")
    if tokens[first].text == "end" and tokens[first].kind == "word":
        raise ConfigError(f"put brackets around CASE ... END before {sql[tokens[at].start :][:3].strip()!r}: {sql!r}")
    if first and tokens[first].kind == "string" and tokens[first - 1].kind == "word" and tokens[first].text[0] == "'":
        glued = tokens[first - 1].end == tokens[first].start
        first -= glued
    while first >= 2 and tokens[first - 1].text == "." and tokens[first - 2].kind in ("word", "quoted"):
        first -= 2
    if first >= 3 and tokens[first - 1].text == tokens[first - 2].text == ":":
        return _operand_start(sql, tokens, first - 2)
    return first


def _operand_stop(sql: str, tokens: Sequence[Token], at: int) -> int:
    """Return the token after the operand that begins at ``at``."""
    if at >= len(tokens) or not _is_operand(tokens[at], "(-"):
        raise _missing(sql, tokens, min(at, len(tokens)) - 1, "after")
    stop = at + (2 if tokens[at].text == "-" else 1) if tokens[at].text != "(" else _matching(sql, tokens, at) + 1
    while stop < len(tokens):
        sign = tokens[stop].text if tokens[stop].kind == "symbol" else ""
        if sign == "." or (sign == ":" and tokens[stop - 1].text == ":"):
            stop += 2
        elif sign == ":" and stop + 1 < len(tokens) and tokens[stop + 1].text == ":":
            stop += 1
        elif sign in _OPENING and (sign == "[" or _is_called(tokens[stop - 1])):
            stop = _matching(sql, tokens, stop) + 1
        else:
            break
    return min(stop, len(tokens))


def _is_operand(token: Token, signs: str) -> bool:
    return token.text in signs if token.kind == "symbol" else token.text not in _NO_OPERAND


def _is_called(token: Token) -> bool:
    return token.kind == "quoted" or (token.kind == "word" and token.text not in _NO_OPERAND)


def _matching(sql: str, tokens: Sequence[Token], at: int) -> int:
    """Return where the bracket is that belongs to the one at ``at``."""
    opened = tokens[at].text
    pairs, step = (_OPENING, 1) if opened in _OPENING else (_CLOSING, -1)
    depth = 0
    for found in range(at, len(tokens) if step > 0 else -1, step):
        if tokens[found].kind == "symbol":
            depth += (tokens[found].text == opened) - (tokens[found].text == pairs[opened])
        if depth == 0:
            return found
    raise ConfigError(f"the bracket {opened!r} at character {tokens[at].start + 1} has no other, in {sql!r}")


def _missing(sql: str, tokens: Sequence[Token], at: int, side: str) -> ConfigError:
    place = tokens[at].start + 1
    return ConfigError(f"expected a JSON text or a key {side} the operator at character {place}, in {sql!r}")
