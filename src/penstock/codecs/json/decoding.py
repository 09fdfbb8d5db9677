"""Payloads of JSON to batches whose schema is learned and stays."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from pyarrow import json as pyarrow_json

from ...absence import Mask, mark
from ...delivery import Batch, Decoder
from ...errors import PermanentError, RowsRejected
from ...framing import Framing, first_and_last_bytes, join, offsets
from ...metadata import ABSENT
from . import vanishing
from .absent import NULL, absences, lacking, nulls
from .objects import BIG, EXACT, Conflict, Object, build, column, column_names, infer, read_objects, widest
from .rows import FAULTS, RowReader, row_reader

_FEW = 400
"""Below so many payloads reading objects one by one is quicker."""
_SMALL = 4096
"""Up to so many values flat objects of known types are read one by one: pyarrow takes long to begin."""
_MAX_FIELDS = 2000
"""How many fields are learned before all is forgotten: the keys of such objects are data."""
_MAX_DESTINATIONS = 1000
"""How many destinations are remembered: the one that was not heard of for longest is forgotten."""
_MAX_SEARCHES = 16
"""How many names may be sought in the raw bytes of each batch."""
_WINDOW = 1 << 15
"""How many bytes are searched at once: few enough to stay in the processor's cache."""
_ESCAPED_ASCII = re.compile(rb"\\u00[2-7]")

Types = Mapping[str, pa.DataType]


def decode_exactly(payloads: pa.BinaryArray) -> Batch:
    """Return the rows of the payloads with the schema that holds them; raises PermanentError."""
    found = read_objects(payloads)
    columns = {name: column(found, name) for name in column_names(found)}
    types = {name: infer(values, name) for name, values in columns.items()}
    batch = _batch([build(values, types[name], name) for name, values in columns.items()], types, len(found))
    vanishing.check(batch, payloads)
    return batch


def _batch(arrays: Sequence[pa.Array], types: Types, rows: int) -> Batch:
    if not arrays:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
    return pa.RecordBatch.from_arrays(list(arrays), schema=pa.schema(list(types.items())))


class LearningDecoder:
    """Decodes payloads; what it has seen of the schema it keeps, so that batches look alike.

    Objects are read one by one, which infers exactly, until their types are known; from then on pyarrow reads
    whole batches as those types, and hands back to the first way whatever does not fit them. Several threads may
    call it at once.
    """

    def __init__(self, columns: frozenset[str] | None = None) -> None:
        self._wanted = None if columns is None else frozenset(name.lower() for name in columns)
        self._learned: Types = {}
        self._lock = threading.Lock()
        self._reader: tuple[Types, RowReader | None] = {}, None
        self._apart: OrderedDict[Hashable, LearningDecoder] = OrderedDict()

    def apart(self, destination: Hashable) -> Decoder:
        """Return the decoder of one destination: what it has seen it shares with none of the others."""
        with self._lock:
            found = self._apart.pop(destination, None) or LearningDecoder(self._wanted)
            self._apart[destination] = found
            if len(self._apart) > _MAX_DESTINATIONS:
                self._apart.popitem(last=False)
            return found

    def __call__(self, payloads: pa.BinaryArray) -> Batch:
        """Return the rows of all payloads, in order; raises PermanentError if any of them cannot be read."""
        learned = self._learned
        if not len(payloads):
            return _batch([pa.nulls(0, kind) for kind in learned.values()], learned, 0)
        batch = self._decode(payloads, learned)
        vanishing.check(batch, payloads)
        return batch

    def _decode(self, payloads: pa.BinaryArray, learned: Types) -> Batch:
        if learned and len(payloads) * len(learned) <= _SMALL:
            if (batch := self._decode_small(payloads, learned)) is not None:
                return batch
        elif len(payloads) > _FEW:
            if not learned:  # a few objects tell the types; if not those of all, the batch is read object by object
                self._decode_new(payloads.slice(0, _FEW))
                learned = self._learned
            if learned and (batch := self._decode_known(payloads, learned)) is not None:
                return batch
        return self._decode_new(payloads)

    def _decode_small(self, payloads: pa.BinaryArray, learned: Types) -> Batch | None:
        known, reader = self._reader
        if known is not learned:
            if known != learned:
                reader = row_reader(learned, exact=self._wanted is None)
            self._reader = learned, reader
        if reader is None or not _one_object_each(payloads):
            return None
        data = join(Framing.LINES, payloads)
        if self._wanted is not None and self._mentions_unseen(data, learned):
            return None
        masks: Mapping[str, Mask] | None = None
        try:
            _check_text(data)
            if self._wanted is None and NULL in data.to_pybytes():
                arrays, masks = reader.read_apart(memoryview(data))
            else:
                arrays = reader.read(memoryview(data))
        except FAULTS:
            return None
        if len(arrays[0]) != len(payloads) or any(map(_doubtful, arrays)):
            return None
        batch = _batch(arrays, learned, len(payloads))
        if self._wanted is None:  # a null that nobody has written is one that was made of nothing
            batch = mark(batch, nulls(batch) if masks is None else masks)
        return batch

    def _decode_known(self, payloads: pa.BinaryArray, learned: Types) -> Batch | None:
        if not _one_object_each(payloads) or any(map(_holds_big, learned.values())):
            return None
        data = join(Framing.LINES, payloads)
        if self._wanted is not None and self._mentions_unseen(data, learned):
            return None
        probes = () if self._wanted is None else sorted(self._wanted - learned.keys())
        schema = pa.schema([*learned.items(), *((name, pa.null()) for name in probes)])
        try:
            _check_text(data)
            table = _read(data, schema, self._unexpected(learned)).select(schema.names)
        except (pa.ArrowInvalid, UnicodeDecodeError):
            return None
        if table.num_rows != len(payloads) or table.schema.types != schema.types:
            return None
        (batch,) = table.combine_chunks().to_batches()
        if any(map(_doubtful, batch.columns)):
            return None
        if self._wanted is not None:
            return batch.select(list(learned)) if probes else batch
        try:
            return mark(batch, absences(batch, payloads))
        except FAULTS:
            return None

    def _unexpected(self, learned: Types) -> str:
        """What becomes of a field that is not in the schema: what is ignored would be lost within a wanted object."""
        if self._wanted is None:
            return "error"
        return "infer" if any(map(_holds_struct, learned.values())) else "ignore"

    def _decode_new(self, payloads: pa.BinaryArray) -> Batch:
        found = read_objects(payloads)
        present = dict.fromkeys(name for name in column_names(found) if name != ABSENT)
        if any("\0" in name for name in present):
            _refuse_nul(found, payloads)
        names = [name for name in self._select({**self._learned, **present}) if name in present]
        columns = {name: column(found, name) for name in names}
        types = {name: infer(values, name) for name, values in columns.items()}
        wide, arrays = self._learn(types), []
        for name, kind in wide.items():
            if name not in types:
                arrays.append(pa.nulls(len(found), kind))
                continue
            try:
                arrays.append(build(columns[name], kind, name))
            except Conflict:
                arrays.append(build(columns[name], types[name], name))
        batch = _batch(arrays, dict(zip(wide, (array.type for array in arrays), strict=True)), len(found))
        return mark(batch, lacking(found, list(wide))) if self._wanted is None else batch

    def _select(self, names: Iterable[str]) -> list[str]:
        if self._wanted is None:
            return list(names)
        return [name for name in names if name.lower() in self._wanted] or list(names)[:1]

    def _learn(self, types: Types) -> Types:
        null = pa.null()
        with self._lock:
            names = self._select({**self._learned, **types})
            wide = {name: _wider(self._learned.get(name, null), types.get(name, null), name) for name in names}
            if sum(map(_count_fields, wide.values())) > _MAX_FIELDS:
                wide = dict(types)
            self._learned = wide
            return wide

    def _mentions_unseen(self, data: pa.Buffer, learned: Types) -> bool:
        """Whether a wanted name that was never seen may be a key here, however it is spelled."""
        unseen = (self._wanted or frozenset()) - {name.lower() for name in learned}
        if not unseen:
            return False
        if len(unseen) > _MAX_SEARCHES or not all(name.isascii() for name in unseen):
            return True
        raw = np.frombuffer(data, np.uint8)
        escaped = (raw == ord("\\")).any() and _ESCAPED_ASCII.search(data)
        return bool(escaped) or _any_quoted(raw, unseen)


def _refuse_nul(found: Sequence[Object], payloads: pa.BinaryArray) -> None:
    """Arrow hands names on as texts that end at a NUL: such a name would become another."""
    bad = {row: name for row, one in enumerate(found) for name in one if "\0" in name}
    reasons = {row: f"the key {name[:80]!r} holds a NUL character, which no column can" for row, name in bad.items()}
    if len(found) == len(payloads):
        raise RowsRejected(reasons)
    raise PermanentError(next(iter(reasons.values())))


def _any_quoted(data: np.ndarray, names: frozenset[str]) -> bool:
    """Whether any of the lower-case names stands between quotes; some other characters pass for letters."""
    needles = [_fold(np.frombuffer(f'"{name}"'.encode(), np.uint8)) for name in names]
    overlap = max(map(len, needles))
    parts = (_fold(data[start : start + _WINDOW + overlap]) for start in range(0, len(data), _WINDOW))
    return any(needle in part for part in parts for needle in needles)


def _fold(data: np.ndarray) -> bytes:
    return (data | 0x20).tobytes()


def _wider(known: pa.DataType, new: pa.DataType, name: str) -> pa.DataType:
    try:
        return widest(known, new, name)
    except Conflict:
        return new


def _count_fields(kind: pa.DataType) -> int:
    return 1 + sum(_count_fields(kind.field(index).type) for index in range(kind.num_fields))


def _holds_big(kind: pa.DataType) -> bool:
    return kind.equals(BIG) or any(_holds_big(kind.field(index).type) for index in range(kind.num_fields))


def _holds_struct(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) or any(_holds_struct(kind.field(index).type) for index in range(kind.num_fields))


def _one_object_each(payloads: pa.BinaryArray) -> bool:
    """Whether every payload starts and ends as an object does, so that none can be read across its end."""
    if payloads.null_count:
        return False
    starts = offsets(payloads)
    if (starts[1:] - starts[:-1] < len("{}")).any():
        return False
    first, last = first_and_last_bytes(payloads)
    return bool((first == ord("{")).all() and (last == ord("}")).all())


def _check_text(data: pa.Buffer) -> None:
    one = pa.BinaryArray.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(np.array([0, data.size])), data])
    one.cast(pa.large_string())


def _read(data: pa.Buffer, schema: pa.Schema, unexpected: str) -> pa.Table:
    return pyarrow_json.read_json(
        pa.BufferReader(data),
        read_options=pyarrow_json.ReadOptions(use_threads=False, block_size=data.size + 1),
        parse_options=pyarrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
    )


def _doubtful(array: pa.Array) -> bool:
    """Whether pyarrow may have read a value otherwise than it is.

    A float may be a rounded integer, or was written as NaN or Infinity, which are not JSON; and of lists that
    hold nothing but nulls too few nulls are kept.
    """
    if not len(array):
        return False
    if pa.types.is_floating(array.type):
        values = np.frombuffer(array.buffers()[1], np.float64, len(array), array.offset * 8)
        return not np.abs(values).max(initial=0.0) < EXACT
    if pa.types.is_struct(array.type):
        return any(_doubtful(array.field(index)) for index in range(array.type.num_fields))
    if pa.types.is_list(array.type):
        return array.offsets[-1].as_py() > len(array.values) or _doubtful(array.values)
    return False
