"""Keep the nulls of lists of structs: pyiceberg reads and writes them as empty lists."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io import pyarrow as reading_and_writing
from pyiceberg.io.pyarrow import ArrowProjectionVisitor
from pyiceberg.types import ListType


class NullKeepingVisitor(ArrowProjectionVisitor):
    """Bring columns to the schema of a table, or back: lists of structs that are null stay so."""

    def list(self, list_type: ListType, list_array: pa.Array | None, value_array: pa.Array | None) -> pa.Array | None:
        """Return the list, with its nulls: pyiceberg makes it anew of its offsets, which know none."""
        projected = super().list(list_type, list_array, value_array)
        if projected is None or list_array is None or projected.null_count == list_array.null_count:
            return projected
        return pc.if_else(list_array.is_null(), pa.scalar(None, projected.type), projected)


def keep_nulls() -> None:
    """Let all that pyiceberg reads and writes keep these nulls; it has no option for it."""
    reading_and_writing.ArrowProjectionVisitor = NullKeepingVisitor  # type: ignore[misc]
