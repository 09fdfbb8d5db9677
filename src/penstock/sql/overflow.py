"""Makes a query fail where the result of its arithmetic does not fit its type, instead of wrapping around."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
from datafusion import ScalarUDF, SessionContext, SQLOptions, udf

from ..errors import PermanentError
from . import exact_functions
from .arithmetic import CASTS, TIME_FUNCTIONS, Operation, Wrapping, operations, wrapped
from .bounds import Bounds
from .statement import Statement

_PROBE = "overflow_probe"
_NO_TYPE = pa.binary(24)
"""A type that nothing is converted to, so that a call that expects it is refused with the types of its arguments."""
_REFUSED_CALL = re.compile(r"a call to '(overflow_\w+)' function: coercion from (.*?) to the signature ")
_DICTIONARY = re.compile(r"Dictionary\(\w+, (.*)\)")
_DECIMAL = re.compile(r"Decimal(\d+)\((\d+), (-?\d+)\)")
_DURATION = re.compile(r"Duration\((\w+)\)")
_INTEGERS: dict[str, pa.DataType] = {
    **{f"Int{size}": getattr(pa, f"int{size}")() for size in (8, 16, 32, 64)},
    **{f"UInt{size}": getattr(pa, f"uint{size}")() for size in (8, 16, 32, 64)},
}
_FRACTIONS = ("Float32", "Float64")
_WIDEST = 76
_MAX_SCHEMAS = 256


@dataclass(frozen=True, slots=True)
class Checked:
    """A query that fails where a result does not fit its type."""

    sql: str
    names: tuple[str, ...] | None = None
    """What its columns are called; None if they have these names already."""
    functions: tuple[ScalarUDF, ...] = ()
    bounded: Checked | None = None
    """A query that is quicker, but fails for values of columns for which this one need not; None if there is none."""

    def register(self, session: SessionContext) -> str:
        """Make its functions known to a session, and return the text."""
        for function in self.functions:
            session.register_udf(function)
        return self.sql


@dataclass(frozen=True, slots=True)
class _Guard:
    """What is written around one operation, and the functions this calls by the operand that each of them takes."""

    wrapping: Wrapping
    functions: tuple[tuple[ScalarUDF, int | None], ...]
    fits: pa.DataType | None = None
    """The type that integers have to fit, before and behind the operation; None where more than that is needed."""


class Arithmetic:
    """The arithmetic of one query. May be used by several threads at once."""

    def __init__(self, sql: str, table: str, options: SQLOptions) -> None:
        self._sql, self._options = sql, options
        statement = Statement(sql)
        self._operations = operations(statement)
        self._bounds = Bounds(statement, table, self._operations)
        self._understood = False
        self._known: dict[pa.Schema, Checked] = {}

    def checked(self, session: SessionContext, schema: pa.Schema) -> Checked:
        """Return the query as it is to be planned over a table of this schema, which the session has.

        Raises PermanentError if the text cannot be understood.
        """
        if not self._operations:
            return Checked(self._sql)
        found = self._known.get(schema)
        if found is None:
            if len(self._known) >= _MAX_SCHEMAS:
                self._known.clear()
            self._known[schema] = found = self._check(session, schema)
        return found

    def _check(self, session: SessionContext, schema: pa.Schema) -> Checked:
        meant = self._compare_with_parser(session)
        for number in (1, 2):
            session.register_udf(_probe(number))
        types = [self._types(session, operation) for operation in self._operations]
        while True:
            checked, takes, fits = self._guarded(types)
            checked.register(session)
            refused = self._refused_call(session, checked.sql) if takes else None
            if refused is None:
                is_same = _is_same(meant, session.sql_with_options(checked.sql, self._options).schema())
                bounded = self._bounded(session, schema, fits, meant) if takes and is_same else None
                return Checked(checked.sql, tuple(meant.names) if takes else None, checked.functions, bounded)
            # In a CASE or a UNION a type may get wider after the first look at it.
            at, operand = takes[refused[0]]
            found = refused[1] if operand is None else [*types[at][:operand], *refused[1], *types[at][operand + 1 :]]
            if tuple(found) == types[at]:
                raise PermanentError(_NOT_UNDERSTOOD)
            types[at] = tuple(found)

    def _bounded(
        self,
        session: SessionContext,
        schema: pa.Schema,
        fits: dict[int, pa.DataType | None],
        meant: pa.Schema,
    ) -> Checked | None:
        guards = self._bounds.guards(fits, schema)
        if guards is None:
            return None
        sql = wrapped(self._sql, guards)
        try:
            found = session.sql_with_options(sql, self._options).schema()
        except Exception:  # GROUP BY may not see that what it is given is what is selected
            return None
        names = None if found.names == meant.names else tuple(meant.names)
        return Checked(sql, names) if _is_same(meant, found) else None

    def _compare_with_parser(self, session: SessionContext) -> pa.Schema:
        """Make sure that the operations begin and end where DataFusion thinks they do; return the columns."""
        planned = session.sql_with_options(self._sql, self._options)
        columns = planned.schema()
        if self._understood:
            return columns
        pinned = wrapped(self._sql, [(operation, Wrapping()) for operation in self._operations])
        meant = str(planned.logical_plan())
        try:
            found = str(session.sql_with_options(pinned, self._options).logical_plan())
        except Exception:
            found = ""
        if found != meant:
            raise PermanentError(_NOT_UNDERSTOOD)
        self._understood = True
        return columns

    def _types(self, session: SessionContext, operation: Operation) -> tuple[str, ...]:
        """Return the types of the operands; nothing if they are null, or never looked at."""
        alike = [other for other in self._operations if self._text(other) == self._text(operation)]
        try:
            return self._probed(session, [operation])
        except Exception:
            if len(alike) == 1:
                raise
            # What is grouped by has to be written in the same way wherever it is selected.
            return self._probed(session, alike)

    def _probed(self, session: SessionContext, alike: Sequence[Operation]) -> tuple[str, ...]:
        sql = wrapped(self._sql, [(operation, _probing(operation, self._operand(operation))) for operation in alike])
        refused = self._refused_call(session, sql)
        return () if refused is None else refused[1]

    def _refused_call(self, session: SessionContext, sql: str) -> tuple[str, tuple[str, ...]] | None:
        """Plan a text; return the function of ours that does not take what it is given, and the types of that."""
        try:
            session.sql_with_options(sql, self._options).optimized_logical_plan()
        except Exception as error:
            found = _REFUSED_CALL.search(str(error))
            if found is None:
                raise
            return found[1], tuple(_plain(name) for name in _split(found[2]))
        return None

    def _guarded(
        self, types: Sequence[tuple[str, ...]]
    ) -> tuple[Checked, dict[str, tuple[int, int | None]], dict[int, pa.DataType | None]]:
        """Return the query with guards for these types, which operation and operand each function takes, what fits."""
        first: dict[str, int] = {}
        done: list[tuple[Operation, Wrapping]] = []
        functions: dict[str, ScalarUDF] = {}
        takes: dict[str, tuple[int, int | None]] = {}
        fits: dict[int, pa.DataType | None] = {}
        for at, operation in enumerate(self._operations):
            # Equal texts call functions of equal names, so that they stay equal for GROUP BY.
            suffix = f"{first.setdefault(self._text(operation) + repr(types[at]), at)}"
            literal = tuple(self._sql[start:end].strip().isdecimal() for start, end in operation.operands)
            guard = _guard(operation, types[at], literal, suffix, self._operand(operation)) if types[at] else None
            if guard is not None:
                done.append((operation, guard.wrapping))
                fits[at] = guard.fits
                for function, operand in guard.functions:
                    functions[function.name] = function
                    takes.setdefault(function.name, (at, operand))
        return Checked(wrapped(self._sql, done), None, tuple(functions.values())), takes, fits

    def _operand(self, operation: Operation) -> str:
        start, end = operation.operands[0]
        return self._sql[start:end]

    def _text(self, operation: Operation) -> str:
        return self._sql[operation.start : operation.end]


def _is_same(meant: pa.Schema, found: pa.Schema) -> bool:
    """Whether columns are alike but for their names."""
    return [(one.type, one.nullable) for one in meant] == [(one.type, one.nullable) for one in found]


_NOT_UNDERSTOOD = "the arithmetic of the query cannot be checked for overflow; put each operation in brackets"


def _probing(operation: Operation, operand: str) -> Wrapping:
    if operation.kind in TIME_FUNCTIONS | CASTS:
        return Wrapping(f"{_PROBE}2(", f", {operand})")
    if operation.kind in exact_functions.OPERATORS:
        return Wrapping(f"{_PROBE}2(", ")", ", ")
    if operation.kind == "negate":
        return Wrapping(f"{_PROBE}1(", ")", "")
    return Wrapping("", "", around_operands=((f"{_PROBE}1(", ")"),))


def _guard(
    operation: Operation, types: Sequence[str], literal: Sequence[bool], suffix: str, operand: str
) -> _Guard | None:
    """Return what makes an operation exact; None if it is exact by itself."""
    kind = operation.kind
    if kind in TIME_FUNCTIONS:
        found, time = map(_type_of, types)
        function = exact_functions.of_time(f"overflow_{kind}_{suffix}", kind, found, time)
        return _Guard(Wrapping(f"{function.name}(", f", {operand})"), ((function, None),))
    if kind in CASTS:
        if types[0] not in _FRACTIONS or types[1] in _INTEGERS or types[0] == types[1]:
            return None
        found, value = map(_type_of, types)
        function = exact_functions.of_cast(f"overflow_{kind}_{suffix}", found, value, tries=kind == "try_cast")
        return _Guard(Wrapping(f"{function.name}(", f", {operand})"), ((function, None),))
    if kind == "negate":
        if types[0] not in _INTEGERS:
            return None
        negation = exact_functions.negation(f"overflow_negate_{suffix}", _INTEGERS[types[0]])
        return _Guard(Wrapping(f"{negation.name}(", ")", ""), ((negation, None),), _INTEGERS[types[0]])
    if kind not in exact_functions.OPERATORS:
        return _around_aggregate(kind, types[0], suffix)
    if not all(name in _INTEGERS or _DECIMAL.fullmatch(name) for name in types):
        return None
    result = _result(kind, types[0], types[1])
    if pa.types.is_integer(result):
        name = exact_functions.OPERATORS[kind][0]
        function = exact_functions.operation(f"overflow_{name}_{suffix}", kind, result)
        fits = None if kind in exact_functions.SHIFTS else result
        return _Guard(Wrapping(f"{function.name}(", ")", ", "), ((function, None),), fits)
    return _around_decimals(result, types, literal, suffix)


def _around_decimals(result: pa.DataType, types: Sequence[str], literal: Sequence[bool], suffix: str) -> _Guard:
    """Let DataFusion compute, and look at the digits of what it found."""
    operands = []
    functions: list[tuple[ScalarUDF, int | None]] = []
    for at, (name, constant) in enumerate(zip(types, literal, strict=True)):
        if constant:
            operands.append(("", ""))
            continue
        kind = _type_of(name)
        function = exact_functions.cast(f"overflow_operand{at}_{suffix}", kind, kind)
        operands.append((f"{function.name}(", ")"))
        functions.append((function, at))
    digits = exact_functions.digits(f"overflow_digits_{suffix}", result)
    size = f"Decimal{result.bit_width}({result.precision}, {result.scale})"
    wrapping = Wrapping(f"{digits.name}(arrow_cast(", f", '{size}'))", around_operands=tuple(operands))
    return _Guard(wrapping, (*functions, (digits, None)))


def _around_aggregate(kind: str, name: str, suffix: str) -> _Guard | None:
    """Sum in a wider type what can overflow, and take the sum back to the type it has."""
    duration = _DURATION.fullmatch(name)
    decimal = _DECIMAL.fullmatch(name)
    back: pa.DataType
    if duration or (kind == "sum" and name in ("Int64", "UInt64")):  # narrower ones are summed in 64 bits
        wide, back = exact_functions.SUM, pa.uint64() if name == "UInt64" else pa.int64()
        behind = f", '{name}')" if duration else ", 'UInt64')" if name == "UInt64" else ", 'Int64')"
        mean = (" AS DECIMAL(38, 0))", "CAST(") if kind != "sum" else ("", "")
    elif kind == "sum" and decimal:
        scale = int(decimal[3])
        wide = back = pa.decimal256(_WIDEST, scale)
        if decimal[1] == "128":
            back = pa.decimal128(min(38, int(decimal[2]) + 10), scale)
        behind, mean = f", 'Decimal{back.bit_width}({back.precision}, {scale})')", ("", "")
    else:
        return None
    widening = exact_functions.cast(f"overflow_widen_{suffix}", _type_of(name), wide)
    total = exact_functions.cast(f"overflow_total_{suffix}", wide, back)
    wrapping = Wrapping(
        f"arrow_cast({total.name}({mean[1]}",
        f"{mean[0]}){behind}",
        around_operands=((f"{widening.name}(", ")"),),
    )
    fits = back if kind == "sum" and pa.types.is_integer(back) and not duration else None
    return _Guard(wrapping, ((widening, 0), (total, None)), fits)


def _type_of(name: str) -> pa.DataType:
    if name in _INTEGERS:
        return _INTEGERS[name]
    if decimal := _DECIMAL.fullmatch(name):
        make: Any = pa.decimal256 if decimal[1] == "256" else pa.decimal128
        return make(int(decimal[2]), int(decimal[3]))
    return SessionContext().sql(f"SELECT arrow_cast(NULL, '{name}')").schema().field(0).type


@lru_cache(maxsize=256)
def _result(operator: str, left: str, right: str) -> pa.DataType:
    """Return the type of the results that DataFusion computes; its plans may say another one for decimals."""
    sql = f"SELECT arrow_cast(NULL, '{left}') {operator} arrow_cast(NULL, '{right}')"
    return SessionContext().sql(sql).to_arrow_table().schema.field(0).type


@lru_cache(maxsize=4)
def _probe(number: int) -> ScalarUDF:
    return udf(lambda *arguments: arguments[0], [_NO_TYPE] * number, pa.null(), "immutable", f"{_PROBE}{number}")


def _plain(name: str) -> str:
    found = _DICTIONARY.fullmatch(name)
    return found[1] if found else name


def _split(names: str) -> list[str]:
    """Return the names of types, which may have commas within their brackets."""
    found, depth, start = [], 0, 0
    for at, character in enumerate(names):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            found.append(names[start:at].strip())
            start = at + 1
    return [*found, names[start:].strip()]
