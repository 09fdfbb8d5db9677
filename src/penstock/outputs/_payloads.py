"""What outputs that send messages share: one payload for each row, or none."""

from __future__ import annotations

import pyarrow as pa

from .. import iso8601
from ..component import Output
from ..delivery import Batch
from ..errors import PermanentError
from ..metadata import VALUE


def bodies(output: Output, batch: Batch, column: str | None) -> pa.BinaryArray:
    """Return one payload for each row; null for a row that is not sent.

    They are the cells of ``column``, else of ``__value__`` without a codec, else the codec makes them.
    """
    column = column or (VALUE if output.codec is None and VALUE in batch.schema.names else None)
    return output.payloads(batch) if column is None else cells(batch, column).cast(pa.binary())


def cells(batch: Batch, column: str) -> pa.Array:
    """Return the cells of a column as text or bytes; raises PermanentError if there is none, or they are neither."""
    if column not in batch.schema.names:
        raise PermanentError(f"there is no column {column!r}; the columns are {', '.join(batch.schema.names)}")
    found = batch.column(column)
    if not (pa.types.is_string(found.type) or pa.types.is_binary(found.type)):
        try:
            found = iso8601.plain(found).cast(pa.string())
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise PermanentError(f"the column {column!r} of type {found.type} cannot be sent as text") from error
    return found
