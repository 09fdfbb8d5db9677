"""Rows to JSON, column by column: every value becomes text, and the texts of a row are joined."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ... import iso8601
from ...absence import Mask, shapes_of, without
from ...delivery import Batch
from ...errors import PermanentError

_TEXT = pa.large_string()
_SHORTEST_EXPONENT = 1e9
"""Nearer to zero no whole float is written with an exponent."""
_ESCAPES = {chr(code): msgspec.json.encode(chr(code)).decode()[1:-1] for code in (*range(0x20), ord('"'))}


class Text(NamedTuple):
    """The JSON of a column: what stands before each value, the values, null where there is none, what stands behind."""

    before: str
    values: pa.Array
    after: str

    @property
    def joined(self) -> pa.Array:
        """Each value with what stands around it."""
        return _join(*self) if self.before or self.after else self.values


class Ending(StrEnum):
    """What follows the object of a row."""

    NONE = ""
    NEWLINE = "\n"


def encode_rows(batch: Batch, ending: Ending, *, nulls: bool = False) -> pa.BinaryArray:
    """Return each row as one JSON object; raises PermanentError naming the column that cannot be written.

    ``nulls``: fields that are null are written, and only what the row lacks is left out.
    """
    shapes = shapes_of(batch) if nulls else None
    batch = without(batch)
    written = []
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        try:
            text = _written(array)
            if nulls and text.values.null_count:
                text = _with_nulls(text, shapes.lacking(name) if shapes is not None else None)
            written.append(text)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, PermanentError) as error:
            raise PermanentError(f"column `{name}` of type {array.type} cannot be written as JSON: {error}") from error
    rows = _objects(batch.schema.names, written, batch.num_rows, ending)
    try:
        return rows.cast(pa.large_binary()).cast(pa.binary())
    except pa.ArrowInvalid as error:
        raise PermanentError(f"{batch.num_rows} rows take more than 2 GiB as JSON: expected smaller batches") from error


def _with_nulls(text: Text, lacking: Mask | None) -> Text:
    """Write ``null`` for a missing value, except in rows that lack the field."""
    whole = text.joined.fill_null("null")
    return Text("", whole if lacking is None else pc.if_else(pa.array(~lacking), whole, None), "")


def _objects(names: Sequence[str], texts: Sequence[Text], rows: int, ending: str = "") -> pa.Array:
    """Join the texts of each row's fields to an object, leaving out the nulls."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise PermanentError(f"two columns are called `{twice}`: expected each key once")
    keys = [msgspec.json.encode(name).decode() + ":" for name in names]
    full = next((index for index, text in enumerate(texts) if not text.values.null_count), None)
    if full is None:
        return _sparse_objects(keys, texts, rows, ending)
    parts: list[str | pa.Array] = ["{"]
    for index, (key, text) in enumerate(zip(keys, texts, strict=True)):
        before = ("," if index > full else "") + key + text.before
        after = text.after + ("," if index < full else "")
        if text.values.null_count:
            parts.append(_join(before, text.values, after))
        else:
            parts += [before, text.values, after]
    return _join(*parts, "}" + ending, skip_nulls=True)


def _sparse_objects(keys: Sequence[str], texts: Sequence[Text], rows: int, ending: str) -> pa.Array:
    """Objects of which any field may be missing: each is preceded by a comma, and the first comma is cut off."""
    fields = [_join("," + key + text.before, *text[1:]) for key, text in zip(keys, texts, strict=True)]
    joined = _join(pa.repeat(pa.scalar("", _TEXT), rows), *fields, skip_nulls=True)
    return _join("{", pc.utf8_slice_codeunits(joined, 1), "}" + ending)


def _join(*parts: str | pa.Array, skip_nulls: bool = False) -> pa.Array:
    merged: list[str | pa.Array] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        elif not isinstance(part, str) or part:
            merged.append(part)
    scalars = [pa.scalar(part, _TEXT) if isinstance(part, str) else part for part in merged]
    handling = "skip" if skip_nulls else "emit_null"
    return pc.binary_join_element_wise(*scalars, pa.scalar("", _TEXT), null_handling=handling)


def as_texts(array: pa.Array) -> pa.Array:
    """Return each value as JSON text, null where there is none."""
    return _written(array).joined


def _written(array: pa.Array) -> Text:
    kind = array.type
    for fits, write in _WRITERS:
        if fits(kind):
            text = write(array)
            return text if isinstance(text, Text) else Text("", text, "")
    if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise PermanentError("there is no JSON for it")
    return Text("", array.cast(_TEXT), "")


def _quoted(array: pa.Array) -> Text:
    """Text, escaped only where some value needs it."""
    array = array.cast(_TEXT)
    data = array.buffers()[2]
    if data is not None and data.size:
        raw = np.frombuffer(data, np.uint8)
        controls = np.unique(raw[raw < 0x20]).tolist() if (raw < 0x20).any() else []
        if (raw == ord("\\")).any():
            array = pc.replace_substring(array, "\\", "\\\\")
        for code in [*controls, *([ord('"')] if (raw == ord('"')).any() else [])]:
            array = pc.replace_substring(array, chr(code), _ESCAPES[chr(code)])
    return Text('"', array, '"')


def _bytes(array: pa.Array) -> Text:
    if not pa.types.is_large_binary(array.type):
        array = array.cast(pa.binary()).cast(pa.large_binary())
    try:
        return _quoted(array.cast(_TEXT))
    except pa.ArrowInvalid:
        return _quoted(pa.array([_as_text(value) for value in array.to_pylist()], _TEXT))


def _as_text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value or b"").decode()


def _floats(array: pa.Array) -> pa.Array:
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    values = array.fill_null(0).to_numpy(zero_copy_only=False)
    finite = np.isfinite(values)
    if not finite.all():
        array = pc.if_else(pa.array(finite), array, pa.scalar(None, array.type))
    texts = array.cast(_TEXT)
    whole = values == np.trunc(values)
    if not whole.any():
        return texts
    if not np.abs(values).max() < _SHORTEST_EXPONENT:
        whole &= ~pc.match_substring(texts, "e").fill_null(False).to_numpy(zero_copy_only=False)
    return _join(texts, pc.if_else(pa.array(whole), pa.scalar(".0", _TEXT), pa.scalar("", _TEXT)))


def _timestamps(array: pa.Array) -> Text:
    return Text('"', iso8601.timestamps(array), 'Z"' if array.type.tz else '"')


def _quoted_by(write: Callable[[pa.Array], pa.Array]) -> Callable[[pa.Array], Text]:
    return lambda array: Text('"', write(array), '"')


def _structs(array: pa.StructArray) -> pa.Array:
    names = [field.name for field in array.type]
    objects = _objects(names, [_written(child) for child in array.flatten()], len(array))
    return pc.if_else(array.is_valid(), objects, pa.scalar(None, _TEXT)) if array.null_count else objects


def _lists(array: pa.Array) -> pa.Array:
    return _bracketed("[", array, as_texts(array.flatten()).fill_null("null"), "]")


def _maps(array: pa.MapArray) -> pa.Array:
    entries = array.cast(pa.list_(pa.struct([("key", array.type.key_type), ("value", array.type.item_type)])))
    keys, values = entries.flatten().flatten()
    names = as_texts(keys) if pa.types.is_string(keys.type) else _quoted(keys.cast(_TEXT)).joined
    return _bracketed("{", entries, _join(names, ":", as_texts(values).fill_null("null")), "}")


def _bracketed(opening: str, array: pa.Array, items: pa.Array, closing: str) -> pa.Array:
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    mask = array.is_null() if array.null_count else None
    lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), items, mask=mask)
    return _join(opening, pc.binary_join(lists, pa.scalar(",", _TEXT)), closing)


def _decoded(array: pa.Array) -> Text:
    return _written(array.cast(array.type.value_type))


def _storage(array: pa.ExtensionArray) -> Text:
    if array.type.extension_name == "arrow.uuid":
        return _quoted(pa.array([None if value is None else str(value) for value in array.to_pylist()], _TEXT))
    return _written(array.storage)


def _is_any(*checks: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    return lambda kind: any(check(kind) for check in checks)


_is = pa.types
_WRITERS: Sequence[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], Text | pa.Array]]] = (
    (_is_any(_is.is_string, _is.is_large_string, _is.is_string_view), _quoted),
    (_is.is_floating, _floats),
    (_is.is_timestamp, _timestamps),
    (_is.is_struct, _structs),
    (_is.is_map, _maps),
    (_is_any(_is.is_list, _is.is_large_list, _is.is_fixed_size_list, _is.is_list_view, _is.is_large_list_view), _lists),
    (_is_any(_is.is_binary, _is.is_large_binary, _is.is_fixed_size_binary, _is.is_binary_view), _bytes),
    (_is.is_date, _quoted_by(iso8601.dates)),
    (_is.is_time, _quoted_by(iso8601.times)),
    (_is.is_duration, _quoted_by(iso8601.durations)),
    (lambda kind: kind == pa.month_day_nano_interval(), _quoted_by(iso8601.intervals)),
    (_is.is_decimal, lambda array: array.cast(_TEXT)),
    (_is.is_null, lambda array: pa.nulls(len(array), _TEXT)),
    (_is.is_dictionary, _decoded),
    (_is.is_run_end_encoded, lambda array: _written(pc.run_end_decode(array))),
    (lambda kind: isinstance(kind, pa.BaseExtensionType), _storage),
)
