"""Convert numbers to other kinds of numbers, where that loses nothing."""

from __future__ import annotations

import contextlib
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from .columns import Misfit, is_number


def to_boolean(values: pa.Array, target: pa.DataType) -> pa.Array:
    if not is_.is_integer(values.type) or pc.min_max(values.cast(pa.bool_()).cast(values.type)) != pc.min_max(values):
        raise Misfit("neither true nor false")
    return values.cast(target)


def to_number(values: pa.Array, target: pa.DataType) -> pa.Array:
    source = values.type
    if not (is_number(source) or is_.is_boolean(source)):
        raise Misfit(f"a {source}")
    if is_.is_floating(target) and is_.is_decimal(source):
        return parse_fractions(values.cast(pa.string()), target)
    found = values.cast(target)
    if is_.is_floating(source) and is_.is_floating(target) and target.bit_width < source.bit_width:
        vanished = pc.and_(pc.equal(found, 0), pc.not_equal(values, 0))
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.is_finite(values))
        rounded = pc.and_(whole, pc.not_equal(found.cast(source), values))
        if pc.any(pc.or_(vanished, rounded)).as_py():
            raise Misfit("a number that the column would round or cannot hold")
    return found


def parse_fractions(texts: pa.Array, target: pa.DataType) -> pa.Array:
    """Read numbers that are written out as floats; raises Misfit if one would come back as another."""
    found = texts.cast(target)
    long = pc.greater(pc.utf8_length(texts), _EXACT_DIGITS[target])
    doubtful = pc.or_(long, pc.or_(pc.is_inf(found), pc.equal(found, 0))).fill_null(False)
    if pc.any(doubtful).as_py():
        for text, number in zip(texts.filter(doubtful).to_pylist(), found.filter(doubtful), strict=True):
            with contextlib.suppress(decimal.InvalidOperation):
                if not _is_same(decimal.Decimal(text), number):
                    raise Misfit("a number that the column would round or cannot hold")
    return found


_EXACT_DIGITS = {pa.float16(): 2, pa.float32(): 6, pa.float64(): 15}
"""Every decimal number of so many digits comes back from a float as it was."""


def _is_same(written: decimal.Decimal, number: pa.Scalar) -> bool:
    """Tell whether a float is printed as the number."""
    if not written.is_finite():
        return True
    shortest = repr(number.as_py()) if is_.is_float64(number.type) else str(np.float32(number.as_py()))
    return decimal.Decimal(shortest) == written


def to_decimal(values: pa.Array, target: pa.DataType) -> pa.Array:
    source = values.type
    if is_.is_floating(source):
        exact = values.cast(target)
        if not exact.cast(pa.float64()).equals(values.cast(pa.float64())):
            raise Misfit("more digits than the column has")
        return exact
    if is_.is_integer(source):
        return values.cast(pa.decimal128(20, 0)).cast(target)
    if not is_.is_decimal(source):
        raise Misfit(f"a {source}")
    return values.cast(target)
