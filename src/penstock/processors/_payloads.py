"""A column of payloads within a batch: read and replaced by columns, or written out of them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from ..delivery import Batch
from ..errors import PermanentError
from ..metadata import PREFIX, without_metadata


def take_payloads(batch: Batch, name: str, form: str) -> pa.BinaryArray:
    """Return the payloads of a column; raises PermanentError if it is missing, of another type or null anywhere."""
    if name not in batch.schema.names:
        raise PermanentError(f"there is no column `{name}` to read as {form}: the batch has {_named(batch)}")
    column = batch.column(name)
    try:
        payloads = column.cast(pa.binary())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise PermanentError(f"column `{name}` is {column.type}: expected Binary or text") from error
    if payloads.null_count:
        raise PermanentError(f"column `{name}` is null in {payloads.null_count} rows: expected {form}")
    return payloads


def replace_payloads(batch: Batch, name: str, rows: Batch) -> Batch:
    """Put what was read in the place of the payloads; metadata and all other columns stay."""
    rows = rows.select([one for one in rows.schema.names if not (one.startswith(PREFIX) and one in batch.schema.names)])
    kept = [one for one in batch.schema.names if one != name and one not in rows.schema.names]
    fields = [*rows.schema, *(batch.schema.field(one) for one in kept)]
    arrays = [*rows.columns, *(batch.column(one) for one in kept)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields)) if arrays else rows


def select_written(batch: Batch, name: str, included: Sequence[str] | None, form: str) -> Batch:
    """Return the columns that are written into payloads; raises PermanentError if one that is named is missing."""
    if included is None:
        rows = without_metadata(batch)
        return rows.select([one for one in rows.schema.names if one != name])
    missing = [one for one in included if one not in batch.schema.names]
    if missing:
        raise PermanentError(f"there is no column `{missing[0]}` to write as {form}: the batch has {_named(batch)}")
    return batch.select(list(included))


def add_payloads(batch: Batch, name: str, payloads: pa.BinaryArray) -> Batch:
    """Add the column of payloads, in the place of one of that name; all others stay."""
    others = [one for one in batch.schema.names if one != name]
    fields = [*(batch.schema.field(one) for one in others), pa.field(name, pa.binary())]
    return pa.RecordBatch.from_arrays([*map(batch.column, others), payloads], schema=pa.schema(fields))


def _named(batch: Batch) -> str:
    return ", ".join(f"`{one}`" for one in batch.schema.names) or "no columns"
