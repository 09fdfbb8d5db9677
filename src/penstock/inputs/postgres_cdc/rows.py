"""Rows out of changes: the columns of the table, and beside them what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...absence import mark
from ...delivery import Batch
from ...metadata import ABSENT, Origin
from .protocol import HEADER_SIZE, Part, Relation, Run
from .tuples import NULL, PADDING, UNCHANGED, Bytes, Cells, Mask, Numbers, choose, number_at, scatter, texts, walk
from .values import Column, convert, json_encoder

EPOCH = 946_684_800_000_000
"""The beginning of 2000, from which PostgreSQL counts, in microseconds since 1970."""
_OPERATIONS = pa.array(["c", "u", "d", "t", "r"])
_CREATED, _UPDATED, _DELETED, _TRUNCATED, _READ = range(5)
_OWN = ("op", "ts_ms", "source_db", "source_table", "before", "source")


def rows_of(run: Run, database: str) -> tuple[Batch, Origin]:
    """Return the rows of a run of changes, and where they came from."""
    if run.is_truncation:
        return _truncated(run, database)
    relation, count = run.relation, len(run.messages)
    lengths = np.fromiter(map(len, run.messages), np.int64, count)
    starts = np.cumsum(lengths) - lengths
    data = np.frombuffer(b"".join([*run.messages, PADDING]), np.uint8)
    tags = data[starts + HEADER_SIZE]
    codes = np.where(tags == ord("I"), _CREATED, np.where(tags == ord("U"), _UPDATED, _DELETED))
    marks = data[starts + HEADER_SIZE + 5]
    tuples = starts + HEADER_SIZE + 6
    has_old: Mask = marks != ord("N")
    old = np.flatnonzero(has_old)
    before: list[Cells] = []
    if len(old):
        before, ends = walk(data, tuples[old], len(relation.columns))
        is_update = codes[old] == _UPDATED
        tuples[old[is_update]] = ends[is_update] + 1
    cells, _ = walk(data, tuples, len(relation.columns))
    is_key_only: Mask = marks == ord("K")
    columns: dict[str, pa.Array] = {}
    absent: dict[str, Mask] = {}
    for index, column in enumerate(relation.columns):
        found = cells[index]
        missing: Mask = found.kinds == UNCHANGED
        if len(old) and missing.any():  # a whole row from before the change has the value
            found = choose(missing, scatter(before[index], old, count), found)
            missing = missing & ~(has_old & (found.kinds != NULL))
        if not column.is_key:
            missing = missing | (is_key_only & (codes == _DELETED))
        columns[column.name] = convert(texts(data, found), column.kind)
        absent[column.name] = missing
    images = _images(data, relation.columns, before, is_key_only[old]) if len(old) else None
    told = _describe(relation, run.parts, codes, database)
    told["before"] = pa.nulls(count, pa.string()) if images is None else _spread(images, old, count)
    places = pa.array(number_at(data, starts + 1, 8))
    return _assemble(columns, told, absent), _origin(relation, run.parts, places)


def read_rows(columns: Sequence[Column], table: tuple[str, str], values: Batch, database: str, lsn: int) -> Batch:
    """Return rows of the snapshot, given their texts."""
    count = values.num_rows
    found = {column.name: convert(values.column(i), column.kind) for i, column in enumerate(columns)}
    schema, name = table
    source = msgspec.json.encode({"schema": schema, "lsn": lsn, "snapshot": True}).decode()
    told = {
        "op": pa.repeat(_OPERATIONS[_READ], count),
        "ts_ms": pa.nulls(count, pa.int64()),
        "source_db": pa.repeat(pa.scalar(database), count),
        "source_table": pa.repeat(pa.scalar(name), count),
        "before": pa.nulls(count, pa.string()),
        "source": pa.repeat(pa.scalar(source), count),
    }
    return _assemble(found, told, {})


def _truncated(run: Run, database: str) -> tuple[Batch, Origin]:
    """A row in which every column is absent."""
    relation = run.relation
    columns = {column.name: pa.nulls(1, column.kind.type) for column in relation.columns}
    told = _describe(relation, run.parts, np.full(1, _TRUNCATED), database)
    told["before"] = pa.nulls(1, pa.string())
    absent = {name: np.ones(1, bool) for name in columns}
    place = pa.array([int.from_bytes(run.messages[0][1:9])], pa.uint64())
    return _assemble(columns, told, absent), _origin(relation, run.parts, place)


def _assemble(columns: Mapping[str, pa.Array], told: Mapping[str, pa.Array], absent: Mapping[str, Mask]) -> Batch:
    names = [f"__{name}" if name in columns else name for name in _OWN]
    batch = mark(
        pa.RecordBatch.from_arrays([*columns.values(), *(told[n] for n in _OWN)], names=[*columns, *names]), absent
    )
    if ABSENT not in batch.schema.names:
        return batch
    lists = pc.binary_join_element_wise(',"absent":', batch.column(ABSENT).cast(pa.string()), "}", "")
    source = pc.binary_replace_slice(told["source"], -1, np.iinfo(np.int64).max, "")
    told_in = pc.binary_join_element_wise(source, lists.fill_null("}"), "")
    return batch.set_column(batch.schema.names.index(names[-1]), names[-1], told_in)


def _describe(relation: Relation, parts: Sequence[Part], codes: Numbers, database: str) -> dict[str, pa.Array]:
    """Return what is told of each change besides the row."""
    count = len(codes)
    sizes = [part.count for part in parts]
    commits = np.repeat([part.transaction.commit for part in parts], sizes)
    numbers = np.repeat([part.transaction.id for part in parts], sizes)
    in_transaction = np.concatenate([np.arange(part.first, part.first + part.count) for part in parts])
    head = f'{{"schema":{msgspec.json.encode(relation.schema).decode()},"lsn":'
    source = pc.binary_join_element_wise(
        pa.scalar(head),
        pa.array(commits).cast(pa.string()),
        pa.scalar(',"seq":'),
        pa.array(in_transaction).cast(pa.string()),
        pa.scalar(',"txId":'),
        pa.array(numbers).cast(pa.string()),
        pa.scalar("}"),
        pa.scalar(""),
    )
    return {
        "op": _OPERATIONS.take(pa.array(codes)),
        "ts_ms": pa.array(_times(parts) // 1000),
        "source_db": pa.repeat(pa.scalar(database), count),
        "source_table": pa.repeat(pa.scalar(relation.table), count),
        "source": source,
    }


def _times(parts: Sequence[Part]) -> Numbers:
    times = np.array([part.transaction.committed_at + EPOCH for part in parts], np.int64)
    return np.repeat(times, [part.count for part in parts])


def _origin(relation: Relation, parts: Sequence[Part], places: pa.Array) -> Origin:
    return Origin(
        "postgres_cdc",
        offset=places,
        timestamp=pa.array(_times(parts) * 1000, pa.timestamp("ns")),
        ext={"schema": relation.schema, "table": relation.table},
    )


def _images(data: Bytes, columns: Sequence[Column], before: Sequence[Cells], is_key_only: Mask) -> pa.StringArray:
    """Return rows as they were before they were changed, as JSON: whole ones, or only their keys."""
    rows: list[list[str]] = [[] for _ in is_key_only]
    for column, cells in zip(columns, before, strict=True):
        name, encode = msgspec.json.encode(column.name).decode(), json_encoder(column.kind)
        is_sent: Mask = (cells.kinds != UNCHANGED) & (column.is_key | ~is_key_only)
        values = texts(data, cells).to_pylist()
        for row in np.flatnonzero(is_sent):
            value = values[row]
            rows[row].append(f"{name}:{'null' if value is None else encode(value)}")
    return pa.array([f"{{{','.join(row)}}}" for row in rows], pa.string())


def _spread(values: pa.Array, rows: Numbers, count: int) -> pa.Array:
    """Return the values at their rows, null elsewhere."""
    where = np.full(count, -1, np.int64)
    where[rows] = np.arange(len(rows))
    return values.take(pa.array(where, mask=where < 0))
