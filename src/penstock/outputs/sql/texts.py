"""Print values as texts: numbers and nested values as their JSON, times as ISO 8601."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from ... import iso8601
from ...component import Codec
from .columns import PRINTABLE_YEARS, check_years, is_text


def texts(values: pa.Array) -> pa.Array:
    """Return any values as text: numbers and nested values as their JSON, times as ISO 8601 prints them."""
    source = values.type
    if is_.is_nested(source):
        return json_texts(values)
    if is_.is_duration(source):
        return values.cast(pa.int64()).cast(pa.string())
    if source.id == INTERVAL:
        return pa.array([None if each is None else _interval(each) for each in values.to_pylist()], pa.string())
    if is_.is_timestamp(source) or is_.is_date(source):
        check_years(values, PRINTABLE_YEARS)
    if is_.is_timestamp(source) and source.tz is not None:
        return zoned(values)
    if is_.is_fixed_size_binary(source) or is_.is_binary_view(source):
        values = values.cast(pa.binary())
    return iso8601.plain(values).cast(pa.string())


def zoned(values: pa.Array) -> pa.Array:
    """Print timestamps of a zone in UTC; thirty times as fast as Arrow, which looks the zone up for each."""
    printed = iso8601.plain(values.cast(pa.timestamp(values.type.unit))).cast(pa.string())
    return pc.binary_join_element_wise(printed, pa.scalar("Z"), pa.scalar(""))


INTERVAL = pa.month_day_nano_interval().id


def _interval(value: Any) -> str:
    seconds, nanoseconds = divmod(abs(value.nanoseconds), 1_000_000_000)
    sign = "-" if value.nanoseconds < 0 else ""
    return f"P{value.months}M{value.days}DT{sign}{seconds}.{nanoseconds:09d}S"


def json_texts(values: pa.Array) -> pa.Array:
    """Return the values as JSON; a text that holds an object or a list is JSON already."""
    encoded = Codec.find("json")().encode(pa.record_batch({"v": values})).cast(pa.string())
    bare = pc.utf8_slice_codeunits(encoded, len('{"v":'), -1)
    bare = pc.if_else(values.is_valid(), bare, pa.scalar(None, pa.string()))
    if not is_text(values.type):
        return bare
    candidates = pc.match_substring_regex(values.cast(pa.string()), r"^\s*[\[{]")
    if not pc.any(candidates).as_py():
        return bare
    kept = values.cast(pa.string())
    return pc.if_else(pa.array([_is_json(text) for text in kept.to_pylist()]), kept, bare)


def _is_json(text: str | None) -> bool:
    if text is None or not text.lstrip().startswith(("[", "{")):
        return False
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True
