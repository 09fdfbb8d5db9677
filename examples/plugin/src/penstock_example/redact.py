"""Redact columns: the smallest processor that works row by row."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as compute

from penstock.component import Processor
from penstock.delivery import Batch


class Redact(Processor, type="redact"):
    """Replace all values of some columns by one text.

    Nulls stay null, and columns that a batch does not have are passed over.

    Example::

        type: redact
        columns: [name, email]
        text: (redacted)
    """

    columns: list[str]
    """The columns to redact."""
    text: str = "***"
    """What stands in their place."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Return the batch with the columns replaced."""
        for name in self.columns:
            at = batch.schema.get_field_index(name)
            if at >= 0:
                hidden = compute.if_else(batch.column(at).is_valid(), self.text, pa.scalar(None, pa.string()))
                batch = batch.set_column(at, name, hidden)
        return [batch]

    def row_wise(self) -> bool:
        """Each row is redacted by itself."""
        return True
