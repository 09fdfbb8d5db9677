"""Flat objects of known types, read as such: the quickest way where there are few of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

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

ESCAPED = re.compile(r'[\\"\x00-\x1f]')
"""What msgspec takes in no name of a field."""

FAULTS = (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError, pa.ArrowInvalid)
"""What reading raises for objects that are not of the known types."""


class RowReader:
    """Reads the columns of known types from lines of JSON, an object each."""

    def __init__(self, types: Mapping[str, pa.DataType], *, exact: bool) -> None:
        """With ``exact`` a field that is not among ``types`` is a fault, else it is passed over."""
        self._columns = [(name, attrgetter(f"field_{index}"), types[name]) for index, name in enumerate(types)]
        self._decode = _decoder(types, exact=exact, absent=None)
        self._decode_apart = _decoder(types, exact=exact, absent=msgspec.UNSET)

    def read(self, lines: bytes | memoryview) -> list[pa.Array]:
        """Return the columns, null where an object has no such field; raises one of FAULTS."""
        rows = self._decode(lines)
        return [pa.array(list(map(get, rows)), kind) for _, get, kind in self._columns]

    def read_apart(self, lines: bytes | memoryview) -> tuple[list[pa.Array], Mapping[str, Mask]]:
        """Return the columns, and by name which objects lack a field that is null there; raises one of FAULTS."""
        rows = self._decode_apart(lines)
        try:
            return [pa.array(list(map(get, rows)), kind) for _, get, kind in self._columns], {}
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # of a value that stands for none
            arrays, masks = [], {}
            for name, get, kind in self._columns:
                values = list(map(get, rows))
                if msgspec.UNSET in values:
                    masks[name] = np.array([value is msgspec.UNSET for value in values])
                    values = [None if value is msgspec.UNSET else value for value in values]
                arrays.append(pa.array(values, kind))
            return arrays, masks


def row_reader(types: Mapping[str, pa.DataType], *, exact: bool) -> RowReader | None:
    """Return what reads columns of these types; None if one is nested or oddly named."""
    if not types or any(kind not in _TYPES for kind in types.values()) or any(map(ESCAPED.search, types)):
        return None
    return RowReader(types, exact=exact)


def _decoder(
    types: Mapping[str, pa.DataType], *, exact: bool, absent: Any
) -> Callable[[bytes | memoryview], list[Any]]:
    names = {f"field_{index}": name for index, name in enumerate(types)}
    kinds = [_TYPES[kind] if absent is None else _TYPES[kind] | msgspec.UnsetType for kind in types.values()]
    fields = [(field, kind, absent) for field, kind in zip(names, kinds, strict=True)]
    row = msgspec.defstruct("Row", fields, rename=names, forbid_unknown_fields=exact, gc=False)
    return msgspec.json.Decoder(row).decode_lines
