"""The narrowest types that columns of text can have without anything being changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_BIG = pa.decimal128(38, 0)
_EXACT = 2**53
_SURE_DIGITS = 15
"""So many digits a float can hold, whatever they are."""
_SMALLEST = 1e-300
_PLAIN = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?"
_SCIENTIFIC = r"-?[1-9](\.[0-9]+[eE][+-]?[0-9]+|[eE][+-][0-9]+)"  # 1E5 may be the name of an article
_FLOAT = rf"^({_PLAIN}|{_SCIENTIFIC})$"
_TRUTH = pa.array(["true", "false", "True", "False", "TRUE", "FALSE"])
_KINDS: Sequence[pa.DataType] = (pa.null(), pa.bool_(), pa.int64(), _BIG, pa.float64(), pa.string())
"""From the narrowest to the widest: a column that was one of these may later be one of those behind it."""


def wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if pa.bool_() in (one, other) and not (one == other or pa.null() in (one, other)):
        return pa.string()
    return _KINDS[max(_KINDS.index(one), _KINDS.index(other))]


def narrowest(text: pa.StringArray, known: pa.DataType) -> pa.Array:
    """Return the column as the narrowest type, not narrower than the known one, that changes nothing of it."""
    if text.null_count == len(text):
        return pa.nulls(len(text), known)
    values = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    if known.equals(pa.bool_()) or pa.types.is_null(known):
        found = _as_bool(values)
        if found is not None or not pa.types.is_null(known):
            return text if found is None else found
    for kind in _KINDS[max(_KINDS.index(known), 2) : -1]:
        found = _CONVERSIONS[kind](values)
        if found is not None:
            return found
    return text


def _as_bool(values: pa.StringArray) -> pa.Array | None:
    present = values.drop_null()
    if not len(present) or not pc.all(pc.is_in(present, _TRUTH)).as_py():
        return None
    return pc.equal(pc.utf8_lower(values), "true")


def _as_whole(kind: pa.DataType) -> Callable[[pa.StringArray], pa.Array | None]:
    def convert(values: pa.StringArray) -> pa.Array | None:
        try:
            numbers = values.cast(kind)
            return numbers if len(values.drop_null()) and numbers.cast(pa.string()).equals(values) else None
        except pa.ArrowInvalid:
            return None

    return convert


def _as_floats(values: pa.StringArray) -> pa.Array | None:
    present = values.drop_null()
    if not len(present) or not pc.all(pc.match_substring_regex(present, _FLOAT)).as_py():
        return None
    if pc.any(pc.equal(present, "-0")).as_py():  # written as -0.0 it would be another text
        return None
    numbers = values.cast(pa.float64())
    found = numbers.drop_null().to_numpy()
    if not np.isfinite(found).all():
        return None
    size = np.abs(found)
    if (size >= _EXACT).any():
        big = present.filter(pa.array(size >= _EXACT))
        if pc.any(pc.invert(pc.match_substring_regex(big, "[.eE]"))).as_py():
            return None
    doubtful = (size < _SMALLEST) | (pc.binary_length(present).to_numpy() > _SURE_DIGITS)
    if doubtful.any():
        texts = present.filter(pa.array(doubtful)).to_pylist()
        if any(Decimal(text) != Decimal(repr(float(text))) for text in texts):
            return None
    return numbers


_CONVERSIONS: dict[pa.DataType, Callable[[pa.StringArray], pa.Array | None]] = {
    pa.int64(): _as_whole(pa.int64()),
    _BIG: _as_whole(_BIG),
    pa.float64(): _as_floats,
}
