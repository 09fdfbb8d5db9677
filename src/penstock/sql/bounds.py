"""Within which bounds of its columns the arithmetic of a query surely fits its types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import add, mul, sub
from typing import NamedTuple, TypeAlias

import pyarrow as pa

from .arithmetic import Operation, Wrapping
from .statement import Statement, Token, unquoted


class Interval(NamedTuple):
    """The least and the greatest of some integers."""

    low: int
    high: int


Operand: TypeAlias = "str | int | Interval | None"
"""A column, the number of an operation, a constant; None for what is not looked into."""

_OPERATORS = {"+": add, "-": sub, "*": mul}
MAX_ROWS = 1 << 20
"""How many rows of a batch are summed without a look at the sum; half of the bits of a sum are for larger values."""
_EXPONENTS = range(62, 14, -1)
"""Of the bounds that are tried, the widest first."""


class Bounds:
    """What the operations of a query are applied to, as far as its text alone tells."""

    def __init__(self, statement: Statement, table: str, operations: Sequence[Operation]) -> None:
        self._sql, self._operations = statement.sql, operations
        self._aliases = statement.aliases()
        self._numbers = {(operation.start, operation.end): at for at, operation in enumerate(operations)}
        known = statement.reads_one_table(table)
        self.operands = [
            tuple(self._operand(statement, *span) if known else None for span in operation.operands)
            for operation in operations
        ]

    def _operand(self, statement: Statement, start: int, end: int) -> Operand:
        tokens = [token for token in statement.tokens if start <= token.start and token.end <= end]
        while (number := self._numbers.get((tokens[0].start, tokens[-1].end))) is None:
            if len(tokens) < 3 or tokens[0].text != "(" or tokens[-1].text != ")":
                return self._leaf(tokens)
            tokens = tokens[1:-1]
        return number

    def _leaf(self, tokens: Sequence[Token]) -> Operand:
        sign = -1 if len(tokens) == 2 and tokens[0].text == "-" else 1
        token = tokens[-1]
        if len(tokens) > (1 if sign > 0 else 2):
            return None
        if token.kind == "number" and token.text.isdecimal():
            return Interval(sign * int(token.text), sign * int(token.text))
        name = unquoted(token.text)
        is_column = sign > 0 and token.kind in ("word", "quoted") and name.lower() not in self._aliases
        return name if is_column else None

    def guards(
        self, types: Mapping[int, pa.DataType | None], schema: pa.Schema
    ) -> list[tuple[Operation, Wrapping]] | None:
        """Return what makes the query fail where a column is beyond the bounds within which all operations fit.

        None if there are no such bounds. The types are those that the operands and the result of each have to fit.
        """
        columns: dict[Operand, pa.DataType] = {}
        for at, kind in types.items():
            for operand in self.operands[at]:
                if isinstance(operand, str):
                    columns[operand] = _integer(schema, operand)
                elif not isinstance(operand, Interval) and operand not in types:
                    return None
            if kind is None:
                return None
        if None in columns.values():
            return None
        for exponent in _EXPONENTS:
            known = {name: _within(kind, exponent) for name, kind in columns.items()}
            if self._fit(types, known):
                return [(self._operations[at], self._wrapping(at, known, columns)) for at in types]
        return None

    def _fit(self, types: Mapping[int, pa.DataType | None], columns: Mapping[Operand, Interval]) -> bool:
        """Whether no operation has an operand or a result out of range, each being behind those it is applied to."""
        known = dict(columns)
        for at, kind in types.items():
            operands = [one if isinstance(one, Interval) else known[one] for one in self.operands[at]]
            known[at] = result = _apply(self._operations[at].kind, operands)
            limits = _limits(kind)
            if not all(limits.low <= one.low and one.high <= limits.high for one in (*operands, result)):
                return False
        return True

    def _wrapping(
        self, at: int, bounds: Mapping[Operand, Interval], columns: Mapping[Operand, pa.DataType]
    ) -> Wrapping:
        around = []
        for operand, (start, end) in zip(self.operands[at], self._operations[at].operands, strict=True):
            is_narrow = not isinstance(operand, str) or bounds[operand] == _limits(columns[operand])
            around.append(("", "") if is_narrow else _guard(self._sql[start:end], bounds[operand], columns[operand]))
        return Wrapping("", "", around_operands=tuple(around))


def _guard(column: str, bounds: Interval, kind: pa.DataType) -> tuple[str, str]:
    """Return what stands around a column for which the query fails beyond the bounds, by a division by zero."""
    name = str(kind).replace("uint", "UInt").replace("int", "Int")
    low, high, zero = (f"arrow_cast({value}, '{name}')" for value in (*bounds, 0))
    return f"(CASE WHEN {column} BETWEEN {low} AND {high} THEN ", f" ELSE {column} / {zero} END)"


def _integer(schema: pa.Schema, name: str) -> pa.DataType | None:
    """Return the type of a column of integers; None for another one, and where no one column has the name."""
    at = schema.get_field_index(name)
    return schema.field(at).type if at >= 0 and pa.types.is_integer(schema.field(at).type) else None


def _within(kind: pa.DataType, exponent: int) -> Interval:
    low, high = _limits(kind)
    return Interval(max(low, -(2**exponent)), min(high, 2**exponent))


def _apply(kind: str, operands: Sequence[Interval]) -> Interval:
    if kind == "negate":
        return Interval(-operands[0].high, -operands[0].low)
    if kind == "sum":
        return Interval(min(0, operands[0].low * MAX_ROWS), max(0, operands[0].high * MAX_ROWS))
    ends = [_OPERATORS[kind](one, other) for one in operands[0] for other in operands[1]]
    return Interval(min(ends), max(ends))


def _limits(kind: pa.DataType) -> Interval:
    bits = kind.bit_width
    return (
        Interval(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if pa.types.is_signed_integer(kind)
        else Interval(0, 2**bits - 1)
    )
