"""Flat objects of known types, read as such: the quickest way where there are few of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from ...absence import Mask

_TYPES: Mapping[pa.DataType, Any] = {
    pa.int64(): int | None,
    pa.float64(): float | None,
    pa.string(): str | None,
    pa.bool_(): bool | None,
    pa.null(): type(None),
}
"""The kinds of column that are read this way, as msgspec checks their values: without any conversion."""

_ESCAPED = re.compile(r'[\\"\x00-\x1f]')

FAULTS = (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError, pa.ArrowInvalid)
"""What reading raises for objects that are not of the known types."""

RowReader: TypeAlias = Callable[[bytes | memoryview], tuple[Sequence[pa.Array], Mapping[str, Mask]]]
"""Returns the columns, and by name which rows lack one; only for those that some rows lack, and if that was asked."""


def row_reader(types: Mapping[str, pa.DataType], *, exact: bool) -> RowReader | None:
    """Return what reads the columns of ``types`` from lines of JSON; None if one is nested or oddly named.

    With ``exact`` a field that is not among them is a fault, and what a row lacks is told apart from null; else it is
    passed over.
    """
    if not types or any(kind not in _TYPES for kind in types.values()) or any(map(_ESCAPED.search, types)):
        return None
    fields = [f"field_{index}" for index in range(len(types))]
    row = msgspec.defstruct(
        "Row",
        [(field, *_declared(kind, exact=exact)) for field, kind in zip(fields, types.values(), strict=True)],
        rename=dict(zip(fields, types, strict=True)),
        forbid_unknown_fields=exact,
        gc=False,
    )
    decode = msgspec.json.Decoder(row).decode_lines
    columns = [(attrgetter(field), kind) for field, kind in zip(fields, types.values(), strict=True)]

    def read(lines: bytes | memoryview) -> tuple[list[pa.Array], Mapping[str, Mask]]:
        rows = decode(lines)
        try:
            return [pa.array(list(map(get, rows)), kind) for get, kind in columns], {}
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            found = {name: list(map(get, rows)) for name, (get, _) in zip(types, columns, strict=True)}
            absent = {name: _lacking(values) for name, values in found.items() if msgspec.UNSET in values}
            arrays = [_without(values, kind) for values, (_, kind) in zip(found.values(), columns, strict=True)]
            return arrays, absent

    return read


def _declared(kind: pa.DataType, *, exact: bool) -> tuple[Any, Any]:
    """The type of a field, and its value where an object lacks it."""
    return (_TYPES[kind] | msgspec.UnsetType, msgspec.UNSET) if exact else (_TYPES[kind], None)


def _lacking(values: list[Any]) -> Mask:
    return np.array([value is msgspec.UNSET for value in values])


def _without(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array([None if value is msgspec.UNSET else value for value in values], kind)
