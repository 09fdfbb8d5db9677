"""What objects of JSON lack, where the columns that were made of them say no more than null."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...absence import Shapes, told_apart
from ...delivery import Batch
from .objects import Object

_MAX_SEARCHES = 4
"""How many names are sought in the text of the rows; for more of them the keys of each row are read."""
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def shapes(objects: Sequence[Object], names: Sequence[str]) -> Shapes | None:
    """Return which of the names each object lacks; None if none lacks any."""
    keys = list(map(tuple, objects))
    ids = {found: number for number, found in enumerate(dict.fromkeys(keys))}
    absent = [[name for name in names if name not in found] for found in map(frozenset, ids)]
    return Shapes(np.array([ids[found] for found in keys]), absent) if any(absent) else None


def absences(batch: Batch, payloads: pa.BinaryArray, data: pa.Buffer) -> Shapes | None:
    """Return which columns each payload, an object, lacks; ``data`` is all of them as one text."""
    masks: dict[str, np.ndarray[Any, Any]] = {}
    doubtful: dict[str, np.ndarray[Any, Any]] = {}
    text = b""
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        if values.null_count:
            text = text or data.to_pybytes()
            there = b"\\" in text or msgspec.json.encode(name) in text
            (doubtful if there else masks)[name] = values.is_null().to_numpy(zero_copy_only=False)
    if doubtful:
        plain = b"\\" not in text and not any(map(pa.types.is_nested, batch.schema.types))
        masks |= (_sought if plain and len(doubtful) <= _MAX_SEARCHES else _read)(doubtful, payloads)
    return told_apart(masks, len(payloads)) if masks else None


def _sought(doubtful: dict[str, np.ndarray[Any, Any]], payloads: pa.BinaryArray) -> dict[str, np.ndarray[Any, Any]]:
    """Search for the keys themselves: in flat objects without escapes only a key is a text before a colon."""
    masks = {}
    for name, mask in doubtful.items():
        rows = np.flatnonzero(mask)
        key = msgspec.json.encode(name).decode()
        some = payloads.take(pa.array(rows))
        found = pc.match_substring(some, key + ":").to_numpy(zero_copy_only=False)
        left = np.flatnonzero(~found)
        if len(left):
            spaced = pc.match_substring_regex(some.take(pa.array(left)), _escaped(key) + r"\s*:")
            found[left] = spaced.to_numpy(zero_copy_only=False)
        masks[name] = np.zeros(len(mask), bool)
        masks[name][rows[~found]] = True
    return masks


def _escaped(text: str) -> str:
    return "".join(char if char.isalnum() or char in '_"' else f"\\x{{{ord(char):x}}}" for char in text)


def _read(doubtful: dict[str, np.ndarray[Any, Any]], payloads: pa.BinaryArray) -> dict[str, np.ndarray[Any, Any]]:
    """Read the keys of the rows that have any null."""
    masks = {name: np.zeros(len(payloads), bool) for name in doubtful}
    rows = np.flatnonzero(np.logical_or.reduce(list(doubtful.values())))
    names = frozenset(doubtful)
    lacking: dict[tuple[str, ...], list[str]] = {}
    for row, payload in zip(rows.tolist(), payloads.take(pa.array(rows)).to_pylist(), strict=True):
        keys = tuple(_KEYS.decode(payload))
        absent = lacking.get(keys)
        if absent is None:
            absent = lacking[keys] = sorted(names.difference(keys))
        for name in absent:
            masks[name][row] = True
    return masks
