"""The columns of a table, and the kinds of values that Arrow has for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

Years: TypeAlias = tuple[int, int]
"""The first and the last year of which a database keeps times."""


PRINTABLE_YEARS: Years = (1, 9999)
"""The years of times that are text: what has more or fewer digits than four is not ISO 8601, and sorts wrongly."""


class Misfit(ValueError):
    """Values that a column cannot hold without loss."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, and what its values are converted to before they are sent."""

    name: str
    type: pa.DataType
    declared: str = ""
    """Its type in the words of the database, for a column that is to be made."""
    json: bool = False
    """It holds JSON, which is sent as text."""
    takes: str = ""
    """SQLite: `number` takes whole and fractional ones, `any` takes what comes. PostgreSQL: `array` takes lists, and
    `interval` texts that are durations. ClickHouse: `native` takes lists, structs and maps, `bytes` takes bytes and
    texts."""
    element: pa.DataType | None = None
    """The type of the elements of an array of numbers."""
    has_default: bool = False
    """The database fills in a value of its own where a row has none."""
    is_required: bool = False
    """A row must have a value, and the database has none of its own."""
    refuses_null: bool = False
    """It is declared NOT NULL."""


def plain(values: pa.Array) -> pa.Array:
    """Return the same values without dictionary, run-end or extension encoding."""
    if isinstance(values, pa.ExtensionArray):
        return plain(values.storage)
    if is_.is_dictionary(values.type):
        return plain(values.dictionary_decode())
    if is_.is_run_end_encoded(values.type):
        return plain(pc.run_end_decode(values))
    return values


def check_years(values: pa.Array, years: Years) -> pa.Array:
    """Raise Misfit for a time of a year that the database cannot keep."""
    kind = values.type
    if not (is_.is_timestamp(kind) or is_.is_date(kind)) or values.null_count == len(values):
        return values
    per_day = 1 if is_.is_date32(kind) else 86_400 * 10 ** PER_SECOND["ms" if is_.is_date(kind) else kind.unit]
    first, end = (_days_before(year) * per_day for year in (years[0], years[1] + 1))
    least, most = pc.min_max(values.view(pa.int32() if is_.is_date32(kind) else pa.int64())).values()
    if least.as_py() < first or most.as_py() >= end:
        raise Misfit(f"a time beyond the years {years[0]} to {years[1]}")
    return values


def _days_before(year: int) -> int:
    """Days from 1970 to the beginning of a year."""
    past = year - 1
    return past * 365 + past // 4 - past // 100 + past // 400 - 719_162


PER_SECOND = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def fits(values: pa.Array, target: pa.DataType) -> bool:
    """Tell whether the values are the same in another type."""
    try:
        values.cast(target)
    except pa.ArrowInvalid:
        return False
    return True


def is_number(kind: pa.DataType) -> bool:
    """Tell whether it is a kind of number."""
    return bool(is_.is_integer(kind) or is_.is_floating(kind) or is_.is_decimal(kind))


def is_text(kind: pa.DataType) -> bool:
    """Tell whether it is a kind of text."""
    return bool(is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Tell whether it is a kind of bytes."""
    return bool(
        is_.is_binary(kind) or is_.is_large_binary(kind) or is_.is_fixed_size_binary(kind) or is_.is_binary_view(kind)
    )
