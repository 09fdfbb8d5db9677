"""The rows that the parsers make of a part: collected, counted, numbered, and made one Arrow batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..rows import PART, POINT, QUARANTINED, ROUTE, ROWS, SERIES, WORKOUT
from .dates import FIRST, LAST
from .slices import Part, Slice, Unreadable

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
_BOUNDED = {"type", "metric", "source", "kind", "parent"}
"""What is part of a key must fit into an index."""
_MAX_LENGTH = 255
_FEW = 64
"""Fewer rows than these are collected one by one: columns of their own would cost more than the rows."""
_JSON = {"original", "fields", "warnings"}
_MAX_EXCERPT_BYTES = 100_000
"""How much of an element is kept beside the reason why it cannot be stored; the raw body has all of it."""
_NAMES = frozenset(ROWS.names)
_PLAIN = {field.name: pa.int64() for field in ROWS if pa.types.is_timestamp(field.type)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Mark(msgspec.Struct, frozen=True):
    """How far the records were."""

    chunks: int
    single: int


class Records:
    """Collects the rows of one part."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.accepted = part.accepted
        self.format = part.format
        """What the body was found to be; a parser may set it where the cutter could not tell."""
        self._chunks: list[dict[str, pa.Array] | list[dict[str, Any]]] = []
        self._single: list[dict[str, Any]] = []
        self._before: dict[str, int] = {}
        """What was received before the last mark, so that what is done for a slice does not grow with their number."""
        self._received: dict[str, int] = {}
        self._rows: dict[str, int] = {}

    def received(self, type: str, count: int = 1) -> None:
        """Count elements that have arrived; as many rows of the type must follow."""
        self._received[type] = self._received.get(type, 0) + count

    def add(self, *, record: str, type: str, index: int, time: datetime | int | None, **values: Any) -> None:
        """Add one row; ``values`` are other columns of ROWS. For long lists, ``extend`` is quicker."""
        _known(values)
        row = {"record": record, "type": type, "index": index, "time": time, **values}
        for name in ("time", "end_time"):
            if isinstance(row.get(name), datetime):
                row[name] = (row[name] - _EPOCH) // _MICROSECOND
        self._single.append(row)
        self._rows[type] = self._rows.get(type, 0) + 1

    def extend(self, count: int, columns: Mapping[str, Column]) -> None:
        """Add ``count`` rows; what is not an array, list or tuple is the same in all of them.

        ``end_time`` is ``time`` where it is not given, or null. JSON columns take text or bytes. NaN is null.
        Raises ValueError or pyarrow.ArrowInvalid for what no row can hold; of few rows, ``flush`` raises it.
        """
        _known(columns)
        if not count:
            return
        if count < _FEW:
            self._collect(count, columns)
            return
        chunk = _columns(count, columns)
        self._close()
        self._chunks.append(chunk)
        for counted in pc.value_counts(chunk["type"]).to_pylist():
            self._rows[counted["values"]] = self._rows.get(counted["values"], 0) + counted["counts"]

    def _collect(self, count: int, columns: Mapping[str, Column]) -> None:
        """Add rows one by one; their columns are made later, of many of them at once."""
        lists = {name: _listed(count, values, name) for name, values in columns.items() if values is not None}
        self._single += [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        for type in lists["type"]:
            self._rows[type] = self._rows.get(type, 0) + 1

    def _close(self) -> None:
        """Let what comes now be behind the rows that were added one by one."""
        if self._single:
            self._chunks.append(self._single)
            self._single = []

    def flush(self) -> None:
        """Make columns of the rows that were added one by one; raises as ``extend`` does."""
        self._close()
        for place, chunk in enumerate(self._chunks):
            if isinstance(chunk, list):
                names = {name for row in chunk for name in row}
                columns = {name: [row.get(name, _DEFAULTS.get(name)) for row in chunk] for name in names}
                self._chunks[place] = _columns(len(chunk), columns)

    def quarantine(
        self, slice: Slice, index: int, reason: str, payload: Any, *, type: str | None = None, path: str | None = None
    ) -> None:
        """Add the element ``index`` of the list of ``slice`` with the reason why it cannot be stored.

        ``payload`` is the element, or its text as received. ``type`` is what it was counted as by ``received``, by
        default the name of the list; the path is that of the element unless another is given.
        """
        if isinstance(payload, Unreadable):
            payload = payload.text
        text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else payload
        text = clean(text) if isinstance(text, str) else as_text(text)
        self.add(
            record=QUARANTINED,
            type=type or slice.name or slice.section,
            index=index,
            time=None,
            reason=clean(reason),
            payload=text if len(text) <= _MAX_EXCERPT_BYTES else text[: _MAX_EXCERPT_BYTES - 1] + "…",
            path=clean(path or f"{slice.path}[{index}]"),
        )

    def mark(self) -> Mark:
        """Return how far the records are now."""
        for type, count in self._received.items():
            self._before[type] = self._before.get(type, 0) + count
        self._received, self._rows = {}, {}
        return Mark(len(self._chunks), len(self._single))

    def rewind(self, mark: Mark) -> None:
        """Forget what came after ``mark``, the last one; it was not followed by a flush unless it followed one."""
        if len(self._chunks) > mark.chunks and isinstance(rows := self._chunks[mark.chunks], list):
            self._single = rows
        del self._single[mark.single :]
        del self._chunks[mark.chunks :]
        self._received, self._rows = {}, {}

    def missing(self) -> dict[str, int]:
        """Return by type how many more elements than rows came since the last mark; empty when all is well."""
        types = self._received.keys() | self._rows.keys()
        lacking = {type: self._received.get(type, 0) - self._rows.get(type, 0) for type in sorted(types)}
        return {type: count for type, count in lacking.items() if count}

    def batch(self) -> pa.RecordBatch:
        """Return all rows, numbered, with the ``part`` row at the end; raises as ``flush`` does."""
        self.mark()
        self.flush()
        chunks = [*self._chunks, _columns(1, {"record": PART, "type": None, "fields": self._part()})]
        table = {name: pa.concat_arrays([chunk[name] for chunk in chunks]) for name in ROWS.names}
        count = len(table["record"])
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
                "received": self._before,
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


def says_anything(value: Any) -> bool:
    """Tell whether a value holds anything: an empty text or list, or a quantity without a number, does not.

    What is empty must not take the place of what an earlier export said.
    """
    if isinstance(value, dict):
        return any(says_anything(each) for key, each in value.items() if key not in ("units", "unit"))
    return value is not None and value != "" and value != []


def as_text(value: Any) -> str:
    """Return a value as JSON, or as Python shows it where it is none."""
    try:
        return clean(encode_sorted(value).decode())
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        return clean(repr(value))


def _known(columns: Mapping[str, Any]) -> None:
    unknown = columns.keys() - _NAMES
    if unknown:
        raise ValueError(f"no columns of a row: {', '.join(sorted(unknown))}")


def _columns(count: int, columns: Mapping[str, Column]) -> dict[str, pa.Array]:
    return {field.name: _column(count, columns.get(field.name, _DEFAULTS.get(field.name)), field) for field in ROWS}


def _listed(count: int, values: Column, name: str) -> Sequence[Any]:
    """Return a column as Python values."""
    if isinstance(values, list | tuple):
        found: Sequence[Any] = values
    elif isinstance(values, np.ndarray):
        found = values.tolist()
    elif isinstance(values, pa.Array | pa.ChunkedArray):
        found = values.cast(ROWS.field(name).type).cast(_PLAIN.get(name, ROWS.field(name).type)).to_pylist()
    else:
        return [values] * count
    if len(found) != count:
        raise ValueError(f"column {name!r} has {len(found)} values for {count} rows")
    return found


def _column(count: int, values: Column, field: pa.Field) -> pa.Array:
    if values is None:
        return pa.nulls(count, field.type)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, np.ndarray | list | tuple):
        array = pa.array(values, field.type, from_pandas=True)
    elif isinstance(values, pa.Array):
        array = values.cast(field.type)
    else:
        array = pa.repeat(pa.scalar(values.decode() if isinstance(values, bytes) else values, field.type), count)
    if len(array) != count:
        raise ValueError(f"column {field.name!r} has {len(array)} values for {count} rows")
    return _checked(array, field)


def _checked(array: pa.Array, field: pa.Field) -> pa.Array:
    """Return the values as the tables can hold them; raises ValueError for what they cannot."""
    if pa.types.is_string(field.type):
        if pc.any(pc.match_substring(array, "\x00")).as_py():
            array = pc.replace_substring(array, "\x00", "\N{REPLACEMENT CHARACTER}")
        if field.name in _JSON and pc.any(pc.match_substring(array, "\\u0000")).as_py():
            array = pc.replace_substring_regex(array, r"((?:^|[^\\])(?:\\\\)*)\\u0000", r"\1\\ufffd")
        if field.name in _BOUNDED and (pc.max(pc.binary_length(array)).as_py() or 0) > _MAX_LENGTH:
            array = pa.array([None if text is None else _bounded(text) for text in array.to_pylist()], field.type)
    elif pa.types.is_floating(field.type):
        if pc.any(pc.is_inf(array)).as_py():
            raise ValueError(f"column {field.name!r} holds an infinite number")
    elif pa.types.is_timestamp(field.type):
        bounds = pc.min_max(array.cast(pa.int64()))
        if bounds["min"].is_valid and not (bounds["min"].as_py() >= FIRST and bounds["max"].as_py() <= LAST):
            raise ValueError(f"column {field.name!r} holds a time that is not in the years 1 to 9999")
    return array


def _bounded(text: str) -> str:
    """Return a key that an index can hold: what is too long ends in a hash of the whole."""
    whole = text.encode()
    if len(whole) <= _MAX_LENGTH:
        return text
    return whole[: _MAX_LENGTH - 33].decode("utf-8", "ignore") + "~" + hashlib.sha256(whole).hexdigest()[:32]


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


__all__ = [
    "PART",
    "POINT",
    "QUARANTINED",
    "ROUTE",
    "SECTIONS",
    "SERIES",
    "WORKOUT",
    "Records",
    "as_text",
    "clean",
    "encode_sorted",
    "section",
]
