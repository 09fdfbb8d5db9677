"""Whether the arithmetic of a query surely fits its types, by the extent of the columns it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import add, mul, sub
from typing import NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from ..delivery import Batch
from .arithmetic import Operation
from .statement import Statement, Token, unquoted


class Interval(NamedTuple):
    """The least and the greatest of some integers."""

    low: int
    high: int


Operand: TypeAlias = "str | int | Interval | None"
"""A column, the number of an operation, a constant; None for what is not looked into."""

_OPERATORS = {"+": add, "-": sub, "*": mul}


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on integers, and the type that its operands and its result have to fit."""

    kind: str
    operands: tuple[Operand, ...]
    type: pa.DataType


class Bounds:
    """What the operations of a query are applied to, as far as its text alone tells."""

    def __init__(self, statement: Statement, table: str, operations: Sequence[Operation]) -> None:
        self._operations = operations
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

    def proof(self, types: Mapping[int, pa.DataType | None]) -> Proof | None:
        """Return how to show that these operations fit; None if that cannot be shown from values of columns."""
        steps: dict[int, Step] = {}
        for at, kind in types.items():
            operands = self.operands[at]
            if kind is None or any(one is None or (isinstance(one, int) and one not in steps) for one in operands):
                return None
            steps[at] = Step(self._operations[at].kind, operands, kind)
        return Proof(steps)


@dataclass(frozen=True, slots=True)
class Proof:
    """The operations of a query, each behind those that are part of it."""

    steps: Mapping[int, Step]

    def holds(self, batch: Batch) -> bool:
        """Tell whether no result can be out of range for the rows of this batch, nor for any of them."""
        known: dict[Operand, Interval] = {}
        for at, step in self.steps.items():
            operands = []
            for operand in step.operands:
                found = operand if isinstance(operand, Interval) else known.get(operand)
                if found is None:
                    found = _extent(batch, operand) if isinstance(operand, str) else None
                    if found is None:
                        return False
                    known[operand] = found
                operands.append(found)
            result = _apply(step.kind, operands, batch.num_rows)
            low, high = _limits(step.type)
            if not all(low <= one.low and one.high <= high for one in (*operands, result)):
                return False
            known[at] = result
        return True


def _extent(batch: Batch, name: str) -> Interval | None:
    at = batch.schema.get_field_index(name)
    if at < 0 or not pa.types.is_integer(batch.schema.field(at).type):
        return None
    values = batch.column(at)
    if values.null_count == 0 and len(values):
        plain = values.to_numpy()
        return Interval(int(plain.min()), int(plain.max()))
    low, high = (found.as_py() for found in pc.min_max(values).values())
    return Interval(low or 0, high or 0)


def _apply(kind: str, operands: Sequence[Interval], rows: int) -> Interval:
    if kind == "negate":
        return Interval(-operands[0].high, -operands[0].low)
    if kind == "sum":
        return Interval(min(0, operands[0].low * rows), max(0, operands[0].high * rows))
    ends = [_OPERATORS[kind](one, other) for one in operands[0] for other in operands[1]]
    return Interval(min(ends), max(ends))


def _limits(kind: pa.DataType) -> Interval:
    bits = kind.bit_width
    return (
        Interval(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if pa.types.is_signed_integer(kind)
        else Interval(0, 2**bits - 1)
    )
