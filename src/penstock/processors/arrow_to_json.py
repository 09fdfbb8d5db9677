"""Write each row as JSON into a column of its own."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from ..component import Codec, Processor
from ..delivery import Batch
from ..metadata import VALUE
from ._payloads import add_payloads, select_written


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
        rows = select_written(batch, self.value_field, self.fields_to_include, "JSON")
        return [add_payloads(batch, self.value_field, Codec.find("json")().encode(rows))]

    def row_wise(self) -> bool:
        """Tell that a batch may be halved to find a row that cannot be written."""
        return True
