"""Write each row as JSON into a column of its own."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pydantic import Field

from ..component import Codec, Processor
from ..delivery import Batch
from ..errors import PermanentError
from ..metadata import VALUE, without_metadata


class ArrowToJson(Processor, type="arrow_to_json"):
    """Write each row as JSON into a column of its own, which outputs without a codec send.

    The object of a row holds its columns but for nulls and metadata, written as by the codec ``json``. All columns
    stay; a column that has the name of the new one already is replaced and is not part of the object.

    Example::

        type: arrow_to_json
        fields_to_include: [sensor, temperature]
    """

    value_field: str = VALUE
    """The Binary column to write to."""
    fields_to_include: list[str] | None = Field(default=None, min_length=1)
    """The only columns to write, in this order; without it all are written."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Return the batch with the JSON of each row in ``value_field``."""
        payloads = Codec.find("json")().encode(self._written(batch))
        others = [name for name in batch.schema.names if name != self.value_field]
        fields = [*(batch.schema.field(name) for name in others), pa.field(self.value_field, pa.binary())]
        arrays = [*(batch.column(name) for name in others), payloads]
        return [pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))]

    def row_wise(self) -> bool:
        """Whether a batch may be halved to find a row that cannot be written: it may."""
        return True

    def _written(self, batch: Batch) -> Batch:
        if self.fields_to_include is None:
            rows = without_metadata(batch)
            return rows.select([name for name in rows.schema.names if name != self.value_field])
        missing = [name for name in self.fields_to_include if name not in batch.schema.names]
        if missing:
            present = ", ".join(f"`{name}`" for name in batch.schema.names) or "no columns"
            raise PermanentError(f"there is no column `{missing[0]}` to write as JSON: the batch has {present}")
        return batch.select(self.fields_to_include)
