"""Write lists as arrays of PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.types as is_

_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode


def array_literals(jsons: pa.Array, texts: Sequence[str | None], *, of_json: bool) -> pa.Array:
    """Return each value whose JSON is a list as the server reads an array, other values as their text.

    The elements of an array ``of_json`` stay JSON.
    """
    found = [
        text if json is None or not json.startswith("[") else _literal(json.encode(), of_json=of_json)
        for json, text in zip(jsons.to_pylist(), texts, strict=True)
    ]
    return pa.array(found, pa.string())


def _literal(json: bytes, *, of_json: bool) -> str:
    return "{" + ",".join(_element(bytes(each), of_json=of_json) for each in _elements(json)) + "}"


def _element(json: bytes, *, of_json: bool) -> str:
    if json == b"null":
        return "NULL"
    if json.startswith(b"[") and not of_json:
        return _literal(json, of_json=of_json)
    return _quoted(_text(json) if json.startswith(b'"') and not of_json else json.decode())


def number_literals(values: pa.Array) -> pa.Array:
    """Return lists of fractions as arrays: JSON knows neither NaN nor infinity."""
    return pa.array([None if row is None else _numbers(row) for row in values.to_pylist()], pa.string())


def _numbers(row: Sequence[Any]) -> str:
    return "{" + ",".join("NULL" if x is None else _numbers(x) if isinstance(x, list) else repr(x) for x in row) + "}"


def innermost(kind: pa.DataType) -> pa.DataType:
    """Return the type of what is in a list, or in the lists in it."""
    while is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind):
        kind = kind.value_type
    return kind


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
