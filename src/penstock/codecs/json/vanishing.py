"""Numbers that are written in JSON and too near to zero for a 64-bit float, which readers take for zero."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa

from ...delivery import Batch
from ...errors import PermanentError

_ZEROS = b"0" * 100
"""A number vanishes by its exponent, or by zeros before its digits: one of the two is long."""
_EXPONENTS = tuple(
    re.compile(rb"%s-0*(?:[2-9][0-9]{2}|[1-9][0-9]{3,})(?=[\s,\]}]|\Z)" % letter) for letter in (b"e", b"E")
)
"""Each begins with letters of which one is sought quickly; what ends as they do is hardly part of a text."""


def check(batch: Batch, payloads: pa.BinaryArray) -> None:
    """Raise PermanentError if a zero of the batch was written in its payload as a number that is not zero."""
    if not any(map(_has_zero, batch.columns)) or not _may_hold_one(payloads.buffers()[2].to_pybytes()):
        return
    for payload in payloads.to_pylist():
        if payload is not None and _may_hold_one(payload):
            _check_payload(payload)


def _has_zero(array: pa.Array) -> bool:
    if pa.types.is_floating(array.type) and len(array):
        return bool((np.frombuffer(array.buffers()[1], np.float64, len(array), array.offset * 8) == 0).any())
    if pa.types.is_struct(array.type):
        return any(_has_zero(array.field(index)) for index in range(array.type.num_fields))
    return pa.types.is_list(array.type) and _has_zero(array.values)


def _may_hold_one(data: bytes) -> bool:
    """Tell whether to look closer."""
    if _ZEROS in data:
        return True
    return any(data[at.start() - 1 : at.start()].isdigit() for pattern in _EXPONENTS for at in pattern.finditer(data))


def _check_payload(payload: bytes) -> None:
    decoder = json.JSONDecoder(parse_float=_fraction)
    text, at = payload.decode("utf-8-sig", "replace"), 0
    while at < len(text):
        try:
            _, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):  # not JSON, which whoever reads it will tell
            return
        at += len(text[at:]) - len(text[at:].lstrip())


def _fraction(number: str) -> float:
    value = float(number)
    if value == 0 and re.search(r"[1-9]", number.lower().partition("e")[0]):
        raise PermanentError(f"the number {number[:80]} is too near to zero for a 64-bit floating point number")
    return value
