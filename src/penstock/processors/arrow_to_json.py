"""Write each row as JSON into a column of its own."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from ..component import Codec, Processor
from ..delivery import Batch
from ..metadata import ABSENT, VALUE
from ._payloads import add_payloads, select_written


class ArrowToJson(Processor, type="arrow_to_json"):
    """Write each row as JSON into a column of its own, which outputs without a codec send.

    The object of a row holds its columns but for nulls and metadata, written as by the codec ``json``; with ``nulls``
    nulls are written, and only what the row lacks is left out. All columns stay; a column that has the name of the
    new one already is replaced and is not part of the object.

    Example::

        type: arrow_to_json
        fields_to_include: [sensor, temperature]
    """

    value_field: str = VALUE
    """The Binary column to write to."""
    fields_to_include: list[str] | None = Field(default=None, min_length=1)
    """The only columns to write, in this order; without it all are written."""
    nulls: bool = False
    """Whether a column that is null is written as `null`; if not, it is left out."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Return the batch with the JSON of each row in ``value_field``."""
        rows = select_written(batch, self.value_field, self.fields_to_include, "JSON")
        if self.nulls and ABSENT in batch.schema.names:
            rows = rows.append_column(batch.schema.field(ABSENT), batch.column(ABSENT))
        codec = Codec.find("json").model_validate({"nulls": self.nulls})
        return [add_payloads(batch, self.value_field, codec.encode(rows))]

    def row_wise(self) -> bool:
        """Tell that a batch may be halved to find a row that cannot be written."""
        return True
