"""The rows that the parsers make of a part: collected, counted, numbered, and made one Arrow batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..rows import PART, POINT, QUARANTINED, ROUTE, ROWS, SERIES, WORKOUT
from .slices import Part, Slice

Column: TypeAlias = Any
"""A list, numpy array or Arrow array of as many values as there are rows, or one value for all of them.

Times are datetimes with an offset, or integers: microseconds since 1970 in UTC."""
Parser: TypeAlias = "Callable[[Slice, Records], None]"
"""Makes rows of a slice. For each element it calls ``received`` once and adds one row, or one in quarantine."""

SECTIONS: dict[str, Parser] = {}
"""The parser of each section."""


def section(*names: str) -> Callable[[Parser], Parser]:
    """Register a parser for sections: ``@section("symptoms", "cycleTracking")``."""

    def register(parser: Parser) -> Parser:
        SECTIONS.update(dict.fromkeys(names, parser))
        return parser

    return register


encode_sorted = msgspec.json.Encoder(order="sorted").encode
"""The JSON of ``original`` and ``fields``, as bytes: keys sorted."""

_KEYS = {
    POINT: ("metric", "time", "source", "end_time", "kind"),
    SERIES: ("parent", "metric", "time", "source"),
    ROUTE: ("parent", "time"),
}
"""What tells rows apart besides ``ordinal``. A workout has no ordinal: its last version in a part stays."""
_DEFAULTS = {"source": "", "kind": ""}


class Mark(msgspec.Struct, frozen=True):
    """How far the records were."""

    chunks: int
    received: dict[str, int]


class Records:
    """Collects the rows of one part."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.accepted = part.accepted
        self._chunks: list[tuple[int, dict[str, Column]]] = []
        self._received: dict[str, int] = {}
        self.format = part.format
        """What the body was found to be; a parser may set it where the cutter could not tell."""

    def received(self, type: str, count: int = 1) -> None:
        """Count elements that have arrived; as many rows of the type must follow."""
        self._received[type] = self._received.get(type, 0) + count

    def add(self, *, record: str, type: str, index: int, time: datetime | int, **values: Any) -> None:
        """Add one row; ``values`` are other columns of ROWS. Not for long lists: use ``extend``."""
        self.extend(1, {"record": record, "type": type, "index": index, "time": time, **values})

    def extend(self, count: int, columns: Mapping[str, Column]) -> None:
        """Add ``count`` rows; what is no array, list or tuple is the same in all of them.

        ``end_time`` is ``time`` where it is not given, or null. JSON columns take text or bytes.
        """
        unknown = columns.keys() - set(ROWS.names)
        if unknown:
            raise ValueError(f"no columns of a row: {', '.join(sorted(unknown))}")
        if count:
            self._chunks.append((count, dict(columns)))

    def quarantine(
        self, slice: Slice, index: int, reason: str, payload: Any, *, type: str | None = None, path: str | None = None
    ) -> None:
        """Add the element ``index`` of the list of ``slice`` with the reason why it cannot be stored.

        ``payload`` is the element, or its text as received. ``type`` is what it was counted as by ``received``, by
        default the name of the list; the path is that of the element unless another is given.
        """
        text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else payload
        self.extend(
            1,
            {
                "record": QUARANTINED,
                "type": type or slice.name or slice.section,
                "index": index,
                "reason": clean(reason),
                "payload": clean(text) if isinstance(text, str) else _json(text),
                "path": clean(path or f"{slice.path}[{index}]"),
                "time": None,
            },
        )

    def mark(self) -> Mark:
        """Return how far the records are now."""
        return Mark(len(self._chunks), dict(self._received))

    def rewind(self, mark: Mark) -> None:
        """Forget what came after ``mark``."""
        del self._chunks[mark.chunks :]
        self._received = dict(mark.received)

    def counted(self) -> dict[str, int]:
        """Return how many elements of each type were received; less those that are rows is zero when all is well."""
        return dict(self._received)

    def rows(self, since: Mark | None = None) -> dict[str, int]:
        """Return how many rows there are of each type."""
        found: dict[str, int] = {}
        for count, columns in self._chunks[since.chunks if since else 0 :]:
            kinds = columns["type"]
            values = [kinds] * count if isinstance(kinds, str) else list(kinds)
            for kind in set(values):
                found[kind] = found.get(kind, 0) + values.count(kind)
        return found

    def batch(self) -> pa.RecordBatch:
        """Return all rows, numbered, with the ``part`` row at the end."""
        chunks = [_columns(count, columns) for count, columns in self._chunks]
        chunks.append(_columns(1, {"record": PART, "time": None, "fields": self._part()}))
        arrays = [pa.concat_arrays([chunk[name] for chunk in chunks]) for name in ROWS.names]
        table = dict(zip(ROWS.names, arrays, strict=True))
        count = len(arrays[0])
        table["ingest"] = pa.repeat(pa.scalar(self.accepted.id), count)
        table["user"] = pa.repeat(pa.scalar(self.accepted.user, pa.int64()), count)
        table["end_time"] = pc.coalesce(table["end_time"], table["time"])
        table["ordinal"] = pa.array(_ordinals(table, count), pa.int32())
        return pa.RecordBatch.from_arrays([table[name] for name in ROWS.names], schema=ROWS)

    def _part(self) -> bytes:
        return encode_sorted(
            {
                "part": self.part.number,
                "last": self.part.last,
                "received": self._received,
                "accepted": self.accepted,
                "error": self.part.error,
                "format": self.format,
                "canonical": self.part.canonical,
            }
        )


def clean(text: str) -> str:
    """Return the text without what a database refuses: NUL, and halves of surrogate pairs."""
    if "\x00" in text:
        text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _json(value: Any) -> str:
    try:
        return clean(encode_sorted(value).decode())
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        return clean(repr(value))


def _columns(count: int, columns: Mapping[str, Column]) -> dict[str, pa.Array]:
    return {field.name: _column(count, columns.get(field.name, _DEFAULTS.get(field.name)), field) for field in ROWS}


def _column(count: int, values: Column, field: pa.Field) -> pa.Array:
    if values is None:
        return pa.nulls(count, field.type)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, np.ndarray | list | tuple):
        if len(values) != count:
            raise ValueError(f"column {field.name!r} has {len(values)} values for {count} rows")
        if pa.types.is_string(field.type) and any(isinstance(value, bytes) for value in values):
            return pa.array(values, pa.binary()).cast(field.type)
        return pa.array(values, field.type)
    if isinstance(values, pa.Array):
        if len(values) != count:
            raise ValueError(f"column {field.name!r} has {len(values)} values for {count} rows")
        return values.cast(field.type)
    if isinstance(values, bytes):
        values = values.decode()
    return pa.repeat(pa.scalar(values, field.type), count)


def _ordinals(table: Mapping[str, pa.Array], count: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Number the rows of equal key by what they say: what says the same has the same number."""
    ordinals = np.zeros(count, np.int32)
    for record, names in _KEYS.items():
        rows = np.flatnonzero(pc.equal(table["record"], record).to_numpy(zero_copy_only=False))
        if len(rows) < 2:
            continue
        keys = _codes([table[name].take(pa.array(rows)) for name in names])
        if len(np.unique(keys)) == len(rows):
            continue
        said = _codes([table[name].take(pa.array(rows)) for name in ("original", "original_unit")])
        _, first, place = np.unique(np.stack([keys, said]), axis=1, return_index=True, return_inverse=True)
        order = np.lexsort((first, keys[first]))  # the distinct rows, by key, in order of appearance
        ordered = keys[first][order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        numbers = np.empty(len(order), np.int32)
        numbers[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
        ordinals[rows] = numbers[place.reshape(-1)]
    return ordinals


def _codes(columns: list[pa.Array]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return a number for each row, the same for rows that are equal in all columns."""
    codes = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        encoded = column.dictionary_encode()
        own = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
        _, codes = np.unique(codes * (len(encoded.dictionary) + 1) + own, return_inverse=True)
    return codes


__all__ = ["PART", "POINT", "QUARANTINED", "ROUTE", "SECTIONS", "SERIES", "WORKOUT", "Records", "clean", "section"]
