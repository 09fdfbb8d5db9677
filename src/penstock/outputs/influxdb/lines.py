"""Rows as lines of InfluxDB's line protocol, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from ... import iso8601
from ...delivery import Batch
from ...errors import PermanentError
from ...metadata import without_metadata
from ..sql.columns import Column, is_binary, is_text, plain
from ..sql.conversions import convert
from ..sql.texts import texts

_EMPTY = pa.scalar("", pa.string())
_TARGETS = {
    "float": pa.float64(),
    "integer": pa.int64(),
    "unsigned": pa.uint64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
}
_SUFFIXES = {"integer": "i", "unsigned": "u"}
_YEARS = (-9999, 9999)


class FieldColumn(NamedTuple):
    """A column that is a field."""

    column: str
    name: str
    type: str | None


class TagColumn(NamedTuple):
    """A column that is a tag."""

    column: str
    name: str


def lines(
    batch: Batch,
    measurements: pa.Array,
    fields: Sequence[FieldColumn],
    tags: Sequence[TagColumn],
    times: pa.Int64Array,
    refused: dict[int, str],
    *,
    has_unsigned: bool,
) -> pa.StringArray:
    """Return one line for each row; null, with the reason entered, for a row that has no form.

    ``fields`` empty stands for all columns but the tags. ``times`` are nanoseconds since 1970.
    """
    content = without_metadata(batch)
    for at in pc.indices_nonzero(pc.fill_null(pc.is_null(measurements), True)).to_pylist():
        refused.setdefault(at, "its measurement is null")
    heads = [_escaped_names(measurements, ", ", refused, "the measurement")]
    for tag in tags:
        heads.append(_tag(content, tag, refused))
    found = [_field(content, one, refused, has_unsigned=has_unsigned) for one in fields]
    if not found:
        raise PermanentError("there is no column that could be a field")
    head, body = _joined(heads), _joined(found)
    for at in pc.indices_nonzero(pc.equal(pc.binary_length(body), 0)).to_pylist():
        refused.setdefault(at, "it has no field that is not null")
    return pc.binary_join_element_wise(head, body, times.cast(pa.string()), " ")


def _joined(parts: Sequence[pa.Array]) -> pa.Array:
    """Join what is not null of each row by commas."""
    begun = pc.if_else(parts[0].is_valid(), _EMPTY, _EMPTY)  # a row of which all is null would be left out
    return pc.utf8_slice_codeunits(pc.binary_join_element_wise(begun, *parts, ",", null_handling="skip"), 1)


def _column(content: Batch, name: str) -> pa.Array:
    if content.schema.names.count(name) != 1:
        raise PermanentError(f"there is no column {name!r}; the columns are {', '.join(content.schema.names)}")
    return plain(content.column(name))


def _tag(content: Batch, tag: TagColumn, refused: dict[int, str]) -> pa.Array:
    values = _texts(_column(content, tag.column))
    values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
    escaped = _escaped_names(values, ",= ", refused, f"the tag {tag.name!r}")
    return pc.binary_join_element_wise(pa.scalar(f"{_key(tag.name)}="), escaped, _EMPTY)


def _field(content: Batch, one: FieldColumn, refused: dict[int, str], *, has_unsigned: bool) -> pa.Array:
    values = _column(content, one.column)
    kind = one.type or _type_of(values.type, has_unsigned=has_unsigned)
    converted, reasons = convert(values, Column(one.name, _TARGETS[kind]), _YEARS)
    for at, reason in reasons.items():
        refused.setdefault(at, reason)
    if kind == "float":
        for at in pc.indices_nonzero(pc.invert(pc.is_finite(converted)).fill_null(False)).to_pylist():
            refused.setdefault(at, f"the field {one.name!r} is no finite number")
    printed = converted.cast(pa.string())
    if kind == "string":
        printed = pc.replace_substring(pc.replace_substring(printed, "\\", "\\\\"), '"', '\\"')
        printed = pc.binary_join_element_wise(pa.scalar('"'), printed, pa.scalar('"'), _EMPTY)
    suffix = pa.scalar(_SUFFIXES.get(kind, ""))
    return pc.binary_join_element_wise(pa.scalar(f"{_key(one.name)}="), printed, suffix, _EMPTY)


def _type_of(kind: pa.DataType, *, has_unsigned: bool) -> str:
    if is_.is_boolean(kind):
        return "boolean"
    if is_.is_uint64(kind) and has_unsigned:
        return "unsigned"
    if is_.is_integer(kind):
        return "integer"
    return "float" if is_.is_floating(kind) or is_.is_null(kind) else "string"


def _texts(values: pa.Array) -> pa.Array:
    if is_text(values.type):
        return values.cast(pa.string())
    if is_binary(values.type) or is_.is_nested(values.type):
        raise PermanentError(f"a column of type {values.type} cannot be a tag")
    return texts(iso8601.plain(values))


def _escaped_names(values: pa.Array, special: str, refused: dict[int, str], what: str) -> pa.Array:
    """Escape names and tags; what the protocol has no form for is refused."""
    values = values.cast(pa.string())
    bad = pc.match_substring_regex(values, r"[\r\n]|\\$")
    for at in pc.indices_nonzero(pc.fill_null(bad, False)).to_pylist():
        refused.setdefault(at, f"{what} has a line break, or a backslash at its end")
    for at in pc.indices_nonzero(pc.fill_null(pc.equal(values, ""), False)).to_pylist():
        refused.setdefault(at, f"{what} is empty")
    for char in special:
        values = pc.replace_substring(values, char, f"\\{char}")
    return values


def _key(name: str) -> str:
    if not name or name == "time" or "\n" in name or "\r" in name or name.endswith("\\"):
        raise PermanentError(f"{name[:80]!r} cannot be the name of a field or a tag")
    for char in ",= ":
        name = name.replace(char, f"\\{char}")
    return name


def times(values: pa.Array, refused: dict[int, str]) -> pa.Int64Array:
    """Return nanoseconds since 1970; a null, or a time that nanoseconds cannot count, is refused."""
    values = plain(values)
    kind = values.type
    if is_.is_integer(kind):
        counts = values.cast(pa.int64())
    elif is_.is_timestamp(kind) or is_.is_date(kind) or is_text(kind):
        target = Column("time", pa.timestamp("ns", "UTC"))
        found, reasons = convert(values, target, _YEARS)
        for at, reason in reasons.items():
            refused.setdefault(at, reason)
        counts = found.cast(pa.int64())
    else:
        raise PermanentError(f"a column of type {kind} cannot be the time")
    for at in np.flatnonzero(counts.is_null().to_numpy(zero_copy_only=False)).tolist():
        refused.setdefault(at, "its time is null")
    return counts
