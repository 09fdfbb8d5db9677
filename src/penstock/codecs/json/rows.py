"""Flat objects of known types, read as such: the quickest way where there are few of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import TypeAlias

import msgspec
import pyarrow as pa

_TYPES: Mapping[pa.DataType, object] = {
    pa.int64(): int | None,
    pa.float64(): float | None,
    pa.string(): str | None,
    pa.bool_(): bool | None,
    pa.null(): None,
}
"""The kinds of column that are read this way, as msgspec checks their values: without any conversion."""

ESCAPED = re.compile(r'[\\"\x00-\x1f]')
"""What msgspec takes in no name of a field."""

FAULTS = (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError, pa.ArrowInvalid)
"""What reading raises for objects that are not of the known types."""

RowReader: TypeAlias = Callable[[bytes | memoryview], Sequence[pa.Array]]


def row_reader(types: Mapping[str, pa.DataType], *, exact: bool) -> RowReader | None:
    """Return what reads the columns of ``types`` from lines of JSON; None if one is nested or oddly named.

    With ``exact`` a field that is not among them is a fault, else it is passed over.
    """
    if not types or any(kind not in _TYPES for kind in types.values()) or any(map(ESCAPED.search, types)):
        return None
    fields = [f"field_{index}" for index in range(len(types))]
    row = msgspec.defstruct(
        "Row",
        [(field, _TYPES[kind], None) for field, kind in zip(fields, types.values(), strict=True)],
        rename=dict(zip(fields, types, strict=True)),
        forbid_unknown_fields=exact,
        gc=False,
    )
    decode = msgspec.json.Decoder(row).decode_lines
    columns = [(attrgetter(field), kind) for field, kind in zip(fields, types.values(), strict=True)]

    def read(lines: bytes | memoryview) -> list[pa.Array]:
        rows = decode(lines)
        return [pa.array(list(map(get, rows)), kind) for get, kind in columns]

    return read
