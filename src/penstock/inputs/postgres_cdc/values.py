"""The types of PostgreSQL: which Arrow type a column has, and how its texts become values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...clients.postgres_types import ARROW_TYPES

TEXT = pa.string()
_NUMBERS = frozenset({"int2", "int4", "int8", "oid", "float4", "float8", "numeric"})
_PIECES = re.compile(r'[{},]|"(?:[^"\\]|\\.)*"|[^{},"]+', re.DOTALL)
_BOXES = re.compile(r'[{};]|"(?:[^"\\]|\\.)*"|[^{};"]+', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BRACKETS = {"{": "[", "}": "]"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of PostgreSQL."""

    name: str
    """Its name, or that of an array's elements."""
    type: pa.DataType
    """What it is in Arrow."""
    is_array: bool = False
    """Whether values are arrays, which become lists in JSON."""
    modifier: int = -1
    """The precision and the scale of a number, as PostgreSQL packs them; -1 for none."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    kind: Kind
    is_key: bool
    """Whether it is part of what identifies a row, the replica identity."""


def kind_of(name: str, modifier: int) -> Kind:
    """Return the type called ``name``; ``modifier`` has the precision and the scale of a number, -1 for none."""
    if name == "numeric" and modifier >= 4:
        precision, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
        if scale <= precision <= 76:
            decimal = pa.decimal128 if precision <= 38 else pa.decimal256
            return Kind(name, decimal(precision, scale), modifier=modifier)
    return Kind(name, ARROW_TYPES.get(name, TEXT))


def convert(texts: pa.StringArray, kind: Kind) -> pa.Array:
    """Convert texts as PostgreSQL prints them; all stay texts if one has no value of the type, as `infinity`."""
    if kind.is_array:
        encode = json_encoder(kind)
        return pa.array([None if text is None else encode(text) for text in texts.to_pylist()], TEXT)
    if kind.type == TEXT:
        return texts
    try:
        if kind.type == pa.binary():
            return read_bytes(texts)
        if pa.types.is_boolean(kind.type):
            return pc.equal(texts, "t")
        if pa.types.is_time(kind.type):
            moments = pc.binary_join_element_wise(pa.scalar("1970-01-01 "), texts, pa.scalar(""))
            return moments.cast(pa.timestamp("us")).cast(kind.type)
        return texts.cast(kind.type)
    except pa.ArrowInvalid:
        return texts


def read_bytes(texts: pa.StringArray) -> pa.BinaryArray:
    """Read texts of the form ``\\x6162``, all values at once."""
    digits = pc.utf8_slice_codeunits(texts.fill_null("\\x"), 2).cast(pa.large_string())
    offsets = np.frombuffer(digits.buffers()[1], np.int64)[digits.offset : digits.offset + len(digits) + 1]
    start, end = int(offsets[0]), int(offsets[-1])
    data = digits.buffers()[2]
    raw = bytes.fromhex(memoryview(data)[start:end].tobytes().decode()) if data is not None else b""
    moved = pa.py_buffer(((offsets - start) // 2).astype(np.int64).tobytes())
    found = pa.Array.from_buffers(pa.large_binary(), len(texts), [None, moved, pa.py_buffer(raw)]).cast(pa.binary())
    return pc.if_else(texts.is_valid(), found, pa.scalar(None, pa.binary()))


def json_encoder(kind: Kind) -> Callable[[str], str]:
    """Return what converts a text, as PostgreSQL prints it, to JSON: numbers, lists and JSON as such."""
    element = _element(kind.name)
    if not kind.is_array:
        return element
    pieces, delimiter = (_BOXES, ";") if kind.name == "box" else (_PIECES, ",")  # the one type whose values have commas
    return lambda text: _list(text, pieces, delimiter, element)


def _list(text: str, pieces: re.Pattern[str], delimiter: str, element: Callable[[str], str]) -> str:
    """Convert an array, of any number of dimensions, to a list in JSON; lower bounds are left out."""
    if text.startswith("["):
        text = text[text.index("=") + 1 :]
    return "".join([_piece(piece, delimiter, element) for piece in pieces.findall(text)])


def _piece(piece: str, delimiter: str, element: Callable[[str], str]) -> str:
    if piece in _BRACKETS:
        return _BRACKETS[piece]
    if piece == delimiter:
        return ","
    if piece[0] == '"':
        return element(_ESCAPED.sub(r"\1", piece[1:-1]))
    return "null" if piece == "NULL" else element(piece)


def _element(name: str) -> Callable[[str], str]:
    if name in _NUMBERS:
        return lambda text: text if _is_finite(text) else _string(text)
    if name == "bool":
        return lambda text: "true" if text == "t" else "false"
    return str if name in ("json", "jsonb") else _string


def _is_finite(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _string(text: str) -> str:
    return msgspec.json.encode(text).decode()
