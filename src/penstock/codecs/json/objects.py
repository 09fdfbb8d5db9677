"""JSON objects read one by one, and the Arrow types and columns that hold them exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa

from ...errors import PermanentError
from ...surrogates import find_unpaired, mask_unpaired

MAX_DEPTH = 48
"""How many objects and arrays may lie in one another; Arrow itself exchanges no more than 64 levels."""
EXACT = 2**53
"""Every integer nearer to zero is exact as a float64."""
BIG = pa.decimal128(38, 0)
"""What holds integers that fit neither 64-bit type."""

Object: TypeAlias = dict[str, Any]
_INTEGERS = (pa.int64(), pa.uint64(), BIG)
_EXCERPT = 120
_BOM = b"\xef\xbb\xbf"
_ANY = msgspec.json.Decoder()
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_NAMES = {str: "text", bool: "true or false", int: "a number", float: "a number", dict: "an object", list: "an array"}


class Conflict(PermanentError):
    """Values that no one column type holds."""


def read_objects(payloads: pa.BinaryArray) -> list[Object]:
    """Return the objects of all payloads; raises PermanentError if any payload holds anything else."""
    texts = payloads.to_pylist()
    try:
        return [_OBJECT.decode(text) for text in texts]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
        return [found for text in texts for found in _expand(text)]


def _expand(payload: bytes | None) -> Sequence[Object]:
    if not payload:
        raise PermanentError("the payload is empty: expected a JSON object")
    if payload.isspace() and payload.endswith(b"\n"):
        return []
    text = payload.removeprefix(_BOM)
    try:
        return _only_objects(_ANY.decode(text), payload)
    except msgspec.DecodeError as error:
        return _expand_several(text, payload, error)
    except UnicodeDecodeError as error:
        raise PermanentError(f"the payload is not UTF-8 ({error.reason}): {excerpt(payload)}") from error
    except RecursionError:
        raise _too_deep(excerpt(payload)) from None


def _expand_several(text: bytes, payload: bytes, error: msgspec.DecodeError) -> Sequence[Object]:
    """Return the objects of values that follow one another, which together are no value: ``error`` says why."""
    try:
        values = _ANY.decode_lines(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        lines = [line for line in text.split(b"\n") if line.strip()]
        if len(lines) < 2 or not _is_json(lines[0]):
            raise PermanentError(f"{_explained(error, text)}: {excerpt(payload)}") from error
        return [found for line in lines for found in _expand(line)]
    return [found for value in values for found in _only_objects(value, payload)]


def _explained(error: msgspec.DecodeError, text: bytes) -> str:
    if str(error).startswith("Invalid UTF-8"):  # as msgspec 0.23 says where earlier ones raise UnicodeDecodeError
        return "the payload is not UTF-8"
    half = find_unpaired(text)
    if half is None or not _is_json(mask_unpaired(text)):
        return str(error)
    return f"{half.decode()} is half of a surrogate pair, which is no character"


def _is_json(line: bytes) -> bool:
    try:
        _ANY.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _only_objects(value: Any, payload: bytes) -> Sequence[Object]:
    found = value if isinstance(value, list) else [value]
    other = next((one for one in found if not isinstance(one, dict)), found)
    if other is not found:
        where = " within the array" if isinstance(value, list) else ""
        what = _NAMES.get(type(other), "null")
        raise PermanentError(f"expected a JSON object, found {what}{where}: {excerpt(payload)}")
    return found


def excerpt(payload: bytes) -> str:
    """Return the beginning of a payload, short enough for a message."""
    text = payload[: 4 * _EXCERPT].decode(errors="replace")
    return text if len(text) <= _EXCERPT else text[: _EXCERPT - 3] + "..."


def column_names(objects: Iterable[Object]) -> list[str]:
    """Return every key of the objects, in order of first appearance."""
    return list(dict.fromkeys(chain.from_iterable(objects)))


def column(objects: Sequence[Object], name: str) -> list[Any]:
    """Return the values of one key, None where an object lacks it."""
    try:
        return list(map(itemgetter(name), objects))
    except KeyError:
        return [found.get(name) for found in objects]


def infer(values: Sequence[Any], path: str, depth: int = 1) -> pa.DataType:
    """Return the type that holds all the values exactly; raises Conflict naming ``path`` if there is none."""
    if depth > MAX_DEPTH:
        raise _too_deep(f"at `{path[:_EXCERPT]}`")
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.null()
    if kinds <= {int, float}:
        return _infer_number(values, kinds, path)
    if len(kinds) > 1:
        found = " and ".join(sorted({_NAMES[kind] for kind in kinds}))
        raise Conflict(f"`{path}` holds {found}: expected values of one kind")
    (kind,) = kinds
    if kind is str:
        return pa.string()
    if kind is bool:
        return pa.bool_()
    present = [value for value in values if value is not None]
    if kind is list:
        return pa.list_(infer(list(chain.from_iterable(present)), f"{path}[]", depth + 1))
    names = column_names(present)
    if nul := next((name for name in names if "\0" in name), None):
        raise PermanentError(f"the key {nul[:80]!r} in `{path}` holds a NUL character, which no field can")
    return pa.struct([(name, infer(column(present, name), f"{path}.{name}", depth + 1)) for name in names])


def _infer_number(values: Sequence[Any], kinds: set[type], path: str) -> pa.DataType:
    whole = [value for value in values if type(value) is int]
    if float in kinds:
        return _as_floats(whole, path)
    least, most = min(whole), max(whole)
    if least >= -(2**63) and most < 2**63:
        return pa.int64()
    if least >= 0 and most < 2**64:
        return pa.uint64()
    return BIG if least > -(10**38) and most < 10**38 else pa.string()


def _as_floats(whole: Sequence[int], path: str) -> pa.DataType:
    for value in whole:
        if abs(value) >= EXACT and (value.bit_length() > 1000 or int(float(value)) != value):
            raise Conflict(f"`{path}` holds fractions and {str(value)[:40]}, which a float64 cannot hold exactly")
    return pa.float64()


def widest(one: pa.DataType, other: pa.DataType, path: str) -> pa.DataType:
    """Return the type that holds what either type holds; raises Conflict if there is none."""
    if one.equals(other) or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if one in _INTEGERS and other in _INTEGERS:
        return BIG
    if pa.float64() in (one, other) and (one in _INTEGERS or other in _INTEGERS):
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(widest(one.value_type, other.value_type, f"{path}[]"))
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return pa.struct(list(widest_fields(_fields(one), _fields(other), f"{path}.").items()))
    raise Conflict(f"`{path}` holds {other}: expected {one}")


def widest_fields(
    known: Mapping[str, pa.DataType], new: Mapping[str, pa.DataType], prefix: str = ""
) -> dict[str, pa.DataType]:
    """Return the known fields and then the new ones, each wide enough for both."""
    return {
        name: widest(known.get(name, pa.null()), new.get(name, pa.null()), prefix + name) for name in {**known, **new}
    }


def _fields(struct: pa.StructType) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in struct}


def build(values: Sequence[Any], type: pa.DataType, path: str) -> pa.Array:
    """Return the values as an array of a type at least as wide as the inferred one."""
    if pa.types.is_floating(type):
        _as_floats([value for value in values if value.__class__ is int], path)
        return pa.array([None if value is None else float(value) for value in values], type)
    if pa.types.is_struct(type):
        return _build_struct(values, type, path)
    if pa.types.is_list(type):
        offsets = [0, *accumulate(0 if value is None else len(value) for value in values)]
        present = chain.from_iterable(value for value in values if value is not None)
        items = build(list(present), type.value_type, f"{path}[]")
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, type, mask=_mask(values))
    if pa.types.is_string(type) and any(value.__class__ is int for value in values):
        return pa.array([None if value is None else str(value) for value in values], type)
    return pa.array(values, type)


def _build_struct(values: Sequence[Any], type: pa.StructType, path: str) -> pa.Array:
    if not type.num_fields:
        return pa.array(values, type)
    rows = [{} if value is None else value for value in values]
    children = [build(column(rows, field.name), field.type, f"{path}.{field.name}") for field in type]
    return pa.StructArray.from_arrays(children, fields=list(type), mask=_mask(values))


def _mask(values: Sequence[Any]) -> pa.BooleanArray | None:
    return pa.array([value is None for value in values]) if None in values else None


def _too_deep(where: str) -> PermanentError:
    return PermanentError(f"the JSON is nested too deeply: expected at most {MAX_DEPTH} levels, {where}")
