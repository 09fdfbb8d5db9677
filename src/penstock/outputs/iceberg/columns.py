"""Rows as an Iceberg table takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from ...delivery import Batch
from ...metadata import without_metadata
from ..sql.columns import PRINTABLE_YEARS, Column, is_binary, is_text, plain
from ..sql.conversions import convert


def iceberg_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type of the column that is made for values of an Arrow type; None if it has no type yet."""
    if is_.is_null(kind):
        return None
    if is_.is_dictionary(kind) or is_.is_run_end_encoded(kind):
        return iceberg_type(kind.value_type)
    if is_.is_struct(kind):
        fields = [(kind.field(at).name, iceberg_type(kind.field(at).type)) for at in range(kind.num_fields)]
        return pa.struct([(name, found or pa.string()) for name, found in fields])
    if is_.is_map(kind):
        return pa.map_(iceberg_type(kind.key_type) or pa.string(), iceberg_type(kind.item_type) or pa.string())
    if is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind):
        return pa.list_(iceberg_type(kind.value_type) or pa.string())
    if is_.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    tests = [
        (is_.is_uint64(kind), pa.decimal128(20, 0)),
        (is_.is_integer(kind) or is_.is_duration(kind), pa.int64()),
        (is_.is_floating(kind), pa.float64()),
        (is_.is_boolean(kind) or (is_.is_decimal(kind) and kind.precision <= 38), kind),
        (is_.is_date(kind), pa.date32()),
        (is_.is_time(kind), pa.time64("us")),
        (is_binary(kind), pa.binary()),
    ]
    return next((to for fits, to in tests if fits), pa.string())


def content_of(batch: Batch) -> Batch:
    """Return the columns that are written, without encodings; durations as microseconds."""
    content = without_metadata(batch)
    arrays = [_bare(content.column(at)) for at in range(content.num_columns)]
    return pa.RecordBatch.from_arrays(arrays, names=content.schema.names) if arrays else content


def _bare(values: pa.Array) -> pa.Array:
    values = plain(values)
    if is_.is_duration(values.type):
        return pc.cast(values, options=pc.CastOptions(pa.duration("us"), allow_time_truncate=True)).cast(pa.int64())
    return values


def fit_rows(content: Batch, schema: pa.Schema, refused: dict[int, str], start: int) -> pa.Table:
    """Return the rows with the columns of the table, in its order; enters why rows are refused."""
    arrays = []
    for field in schema:
        at = content.schema.get_field_index(field.name)
        if at < 0:
            values = pa.nulls(content.num_rows, field.type)
        else:
            kind = field.type
            kind = pa.string() if is_text(kind) else pa.binary() if is_binary(kind) else kind
            column = Column(field.name, kind, takes="native" if is_.is_nested(kind) else "")
            values, reasons = convert(content.column(at), column, PRINTABLE_YEARS)
            for row, reason in reasons.items():
                refused.setdefault(start + row, reason)
        if not field.nullable and values.null_count:
            for row in np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)).tolist():
                refused.setdefault(start + row, f"column {field.name}: the table allows no null")
        arrays.append(values if values.type == field.type else values.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def last_of_each_key(rows: pa.Table, key: Sequence[str]) -> pa.Table:
    """Return the last row of each key."""
    numbered = rows.select(list(key)).append_column("__row", pa.array(np.arange(rows.num_rows)))
    last = numbered.group_by(list(key)).aggregate([("__row", "max")]).column("__row_max").combine_chunks()
    if len(last) == rows.num_rows:
        return rows
    return rows.take(pc.take(last, pc.sort_indices(last)))


def missing(content: Batch, known: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    """Return the columns with a type that the table does not have."""
    found = {}
    for field in content.schema:
        kind = iceberg_type(field.type)
        if field.name not in known and kind is not None:
            found[field.name] = kind
    return found
