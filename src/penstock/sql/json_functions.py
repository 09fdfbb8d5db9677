"""The SQL functions that look into JSON text: ``json_get_str(payload, 'user', 'name')`` and its like."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from datafusion import ScalarUDF, udf

MAX_PATH_LENGTH = 4
"""How many keys or indexes a path may have."""

_MISSING: Any = msgspec.UNSET
_ANY_JSON: Any = list[Any] | str | float | int | bool | None
_decode_any = msgspec.json.Decoder().decode


@lru_cache(maxsize=256)
def _decoder(path: tuple[str, ...], leaf: Any) -> Callable[[str], Any]:
    """Return a decoder that skips everything but ``path``, found in the attributes ``f`` of each level."""
    kind = leaf
    for key in reversed(path):
        level = msgspec.defstruct("Level", [("f", kind | msgspec.UnsetType, _MISSING)], rename={"f": key}, gc=False)
        kind = level | _ANY_JSON
    return msgspec.json.Decoder(kind).decode


def _key_of(path: pa.Array) -> str | None:
    """Return the one key this part of the path has in every row; None if it differs."""
    first = path[0]
    return first.as_py() if first.is_valid and pc.all(pc.equal(path, first), skip_nulls=False).as_py() else None


def _found(texts: pa.Array, path: Sequence[pa.Array], *, raw: bool) -> list[Any]:
    """Return what each text holds under its path; ``_MISSING`` where there is nothing or no JSON at all.

    With ``raw`` it is returned as the bytes of its JSON.
    """
    if len(texts) == 0:
        return []
    keys = [_key_of(part) for part in path]
    if None in keys or any(key.lstrip("-").isdigit() for key in keys if key is not None):
        rows = zip(texts.to_pylist(), *(part.to_pylist() for part in path), strict=True)
        return [_walked(text, steps, raw=raw) for text, *steps in rows]
    named = tuple(key for key in keys if key is not None)
    if raw:
        found = _decoded(texts, _decoder(named, msgspec.Raw) if named else msgspec.json.Decoder(msgspec.Raw).decode)
    else:
        found = _decoded(texts, _decoder(named, Any) if named else _decode_any)
    for _ in named:
        found = [getattr(value, "f", _MISSING) for value in found]
    return found


def _decoded(texts: pa.Array, decode: Callable[[str], Any]) -> list[Any]:
    values = texts.to_pylist()
    try:
        return [decode(text) for text in values]
    except (msgspec.DecodeError, TypeError):
        return [_attempted(decode, text) for text in values]


def _attempted(decode: Callable[[str], Any], text: str | None) -> Any:
    try:
        return _MISSING if text is None else decode(text)
    except msgspec.DecodeError:
        return _MISSING


def _walked(text: str | None, steps: Sequence[str | None], *, raw: bool) -> Any:
    value = _attempted(_decode_any, text)
    for step in steps:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step is not None and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _MISSING
    return msgspec.Raw(msgspec.json.encode(value)) if raw and value is not _MISSING else value


def _text(value: Any) -> str | None:
    if value is _MISSING:
        return None
    json = bytes(value)
    if json.startswith(b'"'):
        decoded: str = _decode_any(json)
        return decoded
    return None if json == b"null" else json.decode()


def _get(texts: pa.Array, *path: pa.Array) -> pa.Array:
    return pa.array([_text(value) for value in _found(texts, path, raw=True)], pa.string())


def _get_json(texts: pa.Array, *path: pa.Array) -> pa.Array:
    found = _found(texts, path, raw=True)
    return pa.array([None if value is _MISSING else bytes(value).decode() for value in found], pa.string())


def _get_str(texts: pa.Array, *path: pa.Array) -> pa.Array:
    return pa.array([v if type(v) is str else None for v in _found(texts, path, raw=False)], pa.string())


def _get_int(texts: pa.Array, *path: pa.Array) -> pa.Array:
    fits = range(-(2**63), 2**63)
    found = _found(texts, path, raw=False)
    return pa.array([v if type(v) is int and v in fits else None for v in found], pa.int64())


def _get_float(texts: pa.Array, *path: pa.Array) -> pa.Array:
    found = _found(texts, path, raw=False)
    return pa.array([float(v) if type(v) is float or type(v) is int else None for v in found], pa.float64())


def _get_bool(texts: pa.Array, *path: pa.Array) -> pa.Array:
    return pa.array([v if type(v) is bool else None for v in _found(texts, path, raw=False)], pa.bool_())


def _get_array(texts: pa.Array, *path: pa.Array) -> pa.Array:
    found = [None if value is _MISSING else bytes(value) for value in _found(texts, path, raw=True)]
    decode = msgspec.json.Decoder(list[msgspec.Raw]).decode
    items = [decode(json) if json is not None and json[:1] == b"[" else None for json in found]
    texts = [None if row is None else [bytes(item).decode() for item in row] for row in items]
    return pa.array(texts, pa.list_(pa.string()))


def _object_keys(texts: pa.Array, *path: pa.Array) -> pa.Array:
    found = _found(texts, path, raw=False)
    return pa.array([list(value) if isinstance(value, dict) else None for value in found], pa.list_(pa.string()))


def _contains(texts: pa.Array, *path: pa.Array) -> pa.Array:
    return pa.array([value is not _MISSING for value in _found(texts, path, raw=True)], pa.bool_())


def _length(texts: pa.Array, *path: pa.Array) -> pa.Array:
    found = _found(texts, path, raw=False)
    return pa.array([len(v) if isinstance(v, (list, dict)) else None for v in found], pa.int64())


_FUNCTIONS: dict[str, tuple[Callable[..., pa.Array], pa.DataType]] = {
    "json_get": (_get, pa.string()),
    "json_as_text": (_get, pa.string()),
    "json_get_str": (_get_str, pa.string()),
    "json_get_int": (_get_int, pa.int64()),
    "json_get_float": (_get_float, pa.float64()),
    "json_get_bool": (_get_bool, pa.bool_()),
    "json_get_json": (_get_json, pa.string()),
    "json_get_array": (_get_array, pa.list_(pa.string())),
    "json_object_keys": (_object_keys, pa.list_(pa.string())),
    "json_contains": (_contains, pa.bool_()),
    "json_length": (_length, pa.int64()),
}
NAMES = frozenset(_FUNCTIONS)
_ARITY = re.compile(rf"\b({'|'.join(_FUNCTIONS)})__\d\(")


def arity_name(name: str, arguments: int) -> str:
    """Return the name under which a function is registered for a number of arguments: one each, as types are exact."""
    return f"{name}__{arguments}"


def without_arity(column: str) -> str:
    """Return the name of a result column with functions called as they were written."""
    return _ARITY.sub(r"\1(", column)


@lru_cache(maxsize=64)
def function(name: str, arguments: int) -> ScalarUDF:
    """Return the function that takes the text and a path of ``arguments - 1`` keys or indexes."""
    call, kind = _FUNCTIONS[name]
    returned = pa.field("value", kind, nullable=True)
    takes = [pa.field(f"value_{at}", pa.string(), nullable=True) for at in range(arguments)]
    return udf(partial(call), takes, returned, "immutable", arity_name(name, arguments))
