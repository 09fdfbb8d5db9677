"""The functions that compute exactly, or say which result does not fit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from datafusion import ScalarUDF, udf

OPERATORS: dict[str, tuple[str, Callable[[int, int], int]]] = {
    "+": ("add", lambda left, right: left + right),
    "-": ("subtract", lambda left, right: left - right),
    "*": ("multiply", lambda left, right: left * right),
    "<<": ("shift_left", lambda left, right: left << right),
    ">>": ("shift_right", lambda left, right: left >> right),
}
SHIFTS = ("<<", ">>")
SUM = pa.decimal128(38, 0)
"""The type in which 64-bit integers are summed."""
_DIGIT = re.compile("[1-9]")
_VALUE = re.compile(r"Decimal value (\S+) does")


def operation(name: str, operator: str, kind: pa.DataType) -> ScalarUDF:
    """Return the function that applies an operator to two integers of a type."""
    return udf(partial(_applied, operator, kind), [kind, kind], kind, "immutable", name)


def negation(name: str, kind: pa.DataType) -> ScalarUDF:
    """Return the function that changes the sign of integers."""
    return udf(partial(_negated, kind), [kind], kind, "immutable", name)


def cast(name: str, source: pa.DataType, kind: pa.DataType) -> ScalarUDF:
    """Return the function that takes values of exactly one type to another."""
    return udf(partial(_cast, kind), [source], kind, "immutable", name)


def digits(name: str, kind: pa.DataType) -> ScalarUDF:
    """Return the function that refuses decimals of more digits than their type has."""
    return udf(partial(_with_fitting_digits, kind), [kind], kind, "immutable", name)


def of_time(name: str, function: str, kind: pa.DataType, time: pa.DataType) -> ScalarUDF:
    """Return the function that refuses what a function of times has found, if that is not so for the time."""
    return udf(partial(_possible, function, kind), [kind, time], kind, "immutable", name)


def of_cast(name: str, kind: pa.DataType, value: pa.DataType, *, tries: bool) -> ScalarUDF:
    """Return the function that refuses a fraction that was made of what is too large or too small for its type.

    One that only ``tries`` gives null instead.
    """
    return udf(partial(_in_range, kind, tries), [kind, value], kind, "immutable", name)


def _in_range(kind: pa.DataType, tries: bool, found: pa.Array, values: pa.Array) -> pa.Array:
    doubtful = pc.fill_null(pc.or_(pc.is_inf(found), pc.equal(found, 0)), fill_value=False)
    if not pc.any(doubtful).as_py():
        return found
    lost = [
        doubt and _is_lost(number.as_py(), value.as_py())
        for doubt, number, value in zip(doubtful.to_pylist(), found, values, strict=True)
    ]
    if any(lost) and not tries:
        raise _overflow(kind, (str(value) for value, is_lost in zip(values.to_pylist(), lost, strict=True) if is_lost))
    return pc.if_else(pa.array(lost), pa.scalar(None, kind), found)


def _is_lost(number: float, value: str | float | Decimal) -> bool:
    """Tell whether infinity or zero is not what the value says."""
    if not isinstance(value, str):
        return value != 0 if number == 0 else math.isfinite(value)
    text = value.lower()
    return _DIGIT.search(text.partition("e")[0]) is not None if number == 0 else "inf" not in text


def _possible(function: str, kind: pa.DataType, found: pa.Array, times: pa.Array) -> pa.Array:
    wrong = pc.and_(pc.is_null(found), pc.is_valid(times))
    if function in ("date_trunc", "datetrunc", "date_bin") and times.type == kind:
        wrong = pc.or_(wrong, pc.fill_null(pc.greater(found, times), fill_value=False))
    if pc.any(wrong).as_py():
        time = times.filter(wrong)[0]
        value = time.value if isinstance(time, pa.TimestampScalar) else time.as_py()
        raise ArithmeticError(f"overflow: {function} of {value} ({times.type}) is out of range of {kind}")
    return found


def _applied(operator: str, kind: pa.DataType, left: pa.Array, right: pa.Array) -> pa.Array:
    name, exact = OPERATORS[operator]
    try:
        found = getattr(pc, f"{name}_checked")(left, right)
    except pa.ArrowInvalid:
        found = None
    if found is None or (operator == "<<" and not _is_reversed(found, left, right)):
        raise _overflow(kind, _failures(operator, exact, kind, left, right))
    return found


def _is_reversed(shifted: pa.Array, values: pa.Array, by: pa.Array) -> bool:
    """Whether no bit was lost to the left."""
    return pc.all(pc.equal(pc.shift_right_checked(shifted, by), values)).as_py() is not False


def _failures(
    operator: str, exact: Callable[[int, int], int], kind: pa.DataType, left: pa.Array, right: pa.Array
) -> Iterator[str]:
    for one, other in zip(left.to_pylist(), right.to_pylist(), strict=True):
        if one is None or other is None:
            continue
        if (operator in SHIFTS and other not in range(kind.bit_width)) or not _fits(exact(one, other), kind):
            yield f"{one} {operator} {other}"


def _fits(value: int, kind: pa.DataType) -> bool:
    bits = kind.bit_width
    return value in (range(-(2 ** (bits - 1)), 2 ** (bits - 1)) if pa.types.is_signed_integer(kind) else range(2**bits))


def _negated(kind: pa.DataType, values: pa.Array) -> pa.Array:
    try:
        return pc.negate_checked(values)
    except pa.ArrowInvalid:
        raise _overflow(kind, iter([f"-({pc.min(values).as_py()})"])) from None


def _cast(kind: pa.DataType, values: pa.Array) -> pa.Array:
    if values.type == kind:
        return values
    if pa.types.is_duration(values.type):
        values = values.cast(pa.int64())
    try:
        return pc.cast(values, kind)
    except pa.ArrowInvalid:
        found = (value for value in values.to_pylist() if value is not None)
        wrong = (value for value in found if not pa.types.is_integer(kind) or not _fits(int(value), kind))
        raise _overflow(kind, (f"the sum {value}" for value in wrong)) from None


def _with_fitting_digits(kind: pa.DataType, values: pa.Array) -> pa.Array:
    try:
        values.validate(full=True)
    except pa.ArrowInvalid as error:
        raise _overflow(kind, iter(_VALUE.findall(str(error)))) from None
    return values


def _overflow(kind: pa.DataType, found: Iterator[str]) -> Exception:
    return ArithmeticError(f"overflow: {next(found, 'a result')} is out of range of {kind}")
