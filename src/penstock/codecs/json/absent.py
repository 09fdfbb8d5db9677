"""Which columns the objects of JSON lack, where the columns made of them say no more than null."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from operator import attrgetter, is_
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from ...absence import Mask
from ...delivery import Batch
from ...framing import Framing, contents, join, offsets
from .objects import Object
from .rows import ESCAPED

Places: TypeAlias = np.ndarray[Any, np.dtype[np.intp]]

NULL = b"null"
_WORD = np.dtype("<u4")
_NULL_WORD = int.from_bytes(NULL, "little")
_SHORT = 1 << 14
"""Up to so many bytes they are searched as text."""
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ABSENT = msgspec.Raw(b"")


def lacking(objects: Sequence[Object], names: Sequence[str]) -> Mapping[str, Mask]:
    """Return by name which of the objects lack a key."""
    return {name: np.array([name not in found for found in objects]) for name in names}


def nulls(batch: Batch) -> dict[str, Mask]:
    """Return by name which rows of a batch have null."""
    return {
        name: values.is_null().to_numpy(zero_copy_only=False)
        for name, values in zip(batch.schema.names, batch.columns, strict=True)
        if values.null_count
    }


def absences(batch: Batch, payloads: pa.BinaryArray) -> Mapping[str, Mask]:
    """Return by name which of the payloads, an object each, lack a column of the batch that was made of them.

    No object has two equal keys: pyarrow, which read them, takes none that has. Raises one of FAULTS if it cannot be
    told.
    """
    masks = nulls(batch)
    if not masks:
        return masks
    text, starts = contents(payloads), offsets(payloads)
    places = _find_nulls(text)
    if not len(places):  # A null that nobody has written is one that was made of nothing.
        return masks
    written = np.bincount(np.searchsorted(starts, places + starts[0], "right") - 1, minlength=len(payloads))
    made = np.add.reduce(list(masks.values()), dtype=np.int64)
    doubtful = (written > 0) & (made > 0)
    if _are_values(places, text, batch):
        for mask in masks.values():
            mask &= written != made
        doubtful &= written != made
    rows = np.flatnonzero(doubtful)
    if len(rows):
        _leave_out_written(masks, rows, payloads.take(pa.array(rows)))
    return masks


def _find_nulls(text: pa.Buffer) -> Places:
    """Return where the letters of ``null`` stand, in no order."""
    if text.size < _SHORT and NULL not in text.to_pybytes():
        return np.zeros(0, np.intp)
    return np.concatenate([_find(text, at) for at in range(len(NULL))])


def _find(text: pa.Buffer, start: int) -> Places:
    """Return where ``null`` stands at every fourth place: as one number, its letters are compared at once."""
    words = np.frombuffer(text, np.uint8)[start : text.size - (text.size - start) % 4].view(_WORD)
    return np.flatnonzero(words == _NULL_WORD) * 4 + start


def _are_values(places: Places, text: pa.Buffer, batch: Batch) -> bool:
    """Whether ``null`` surely stands in all these places as the value of a column."""
    if any(map(pa.types.is_nested, batch.schema.types)) or any(name.startswith(":") for name in batch.schema.names):
        return False
    raw = np.frombuffer(text, np.uint8)
    colons = places - 1 - (raw[places - 1] == ord(" "))
    behind_quotes = (raw[colons] == ord(":")) & (raw[colons - 1] == ord('"'))
    # A quote before a colon ends a key, but for one that is escaped, or that begins a text with a colon.
    return (
        bool(behind_quotes.all()) and not (raw == ord("\\")).any() and not any(map(_begins_with_colon, batch.columns))
    )


def _begins_with_colon(values: pa.Array) -> bool:
    if not pa.types.is_string(values.type) or not (data := values.buffers()[2]):
        return False
    firsts = np.frombuffer(values.buffers()[1], np.int32, len(values), values.offset * 4)
    return bool((np.frombuffer(data, np.uint8)[firsts[firsts < data.size]] == ord(":")).any())


def _leave_out_written(masks: Mapping[str, Mask], rows: Places, payloads: pa.BinaryArray) -> None:
    """Take out of the masks what is null in some rows because that is written there."""
    names = tuple(name for name, mask in masks.items() if mask[rows].any())
    found = _read_fields(names, payloads)
    for name, values in zip(names, found, strict=True):
        masks[name][rows] &= np.fromiter(map(is_, values, repeat(_ABSENT)), bool, len(rows))


def _read_fields(names: tuple[str, ...], payloads: pa.BinaryArray) -> Iterator[Iterable[Any]]:
    """Yield for each name what the objects have there, ``_ABSENT`` where they lack it."""
    if any(map(ESCAPED.search, names)):
        objects = [_OBJECT.decode(payload) for payload in payloads.to_pylist()]
        yield from ([found.get(name, _ABSENT) for found in objects] for name in names)
        return
    rows = _row_decoder(names)(memoryview(join(Framing.LINES, payloads)))
    if len(rows) != len(payloads):
        raise msgspec.DecodeError("a payload holds several objects")
    yield from (map(attrgetter(f"field_{index}"), rows) for index in range(len(names)))


@lru_cache(maxsize=64)
def _row_decoder(names: tuple[str, ...]) -> Callable[[memoryview], list[Any]]:
    fields = {f"field_{index}": name for index, name in enumerate(names)}
    row = msgspec.defstruct("Row", [(field, msgspec.Raw, _ABSENT) for field in fields], rename=fields, gc=False)
    return msgspec.json.Decoder(row).decode_lines
