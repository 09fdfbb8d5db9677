"""Write each row as a Protobuf message into a column of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field, model_validator

from ..component import Processor
from ..delivery import Batch
from ..metadata import VALUE
from ..protobuf import ProtobufSchema
from ._payloads import add_payloads, select_written


class ArrowToProtobuf(Processor, ProtobufSchema, type="arrow_to_protobuf"):
    """Write each row as a Protobuf message into a column of its own, which outputs without a codec send.

    The message is written as by the codec ``protobuf``. All columns stay; a column that has the name of the new one
    already is replaced and is not part of the message.

    Example::

        type: arrow_to_protobuf
        message_type: Reading
        fields_to_include: [sensor, celsius]
        proto: |
          syntax = "proto3";
          message Reading {
            string sensor = 1;
            double celsius = 2;
          }
    """

    extra: ClassVar[str] = "protobuf"

    value_field: str = VALUE
    """The Binary column to write to."""
    fields_to_include: list[str] | None = Field(default=None, min_length=1)
    """The only columns to write; without it all are written that are fields of the message."""

    c: dict[str, Any] | None = None
    """Another way to write the options of the messages: as one mapping."""

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, value: Any) -> Any:
        """Take the older form apart, in which the options of the messages stand below `c`."""
        if isinstance(value, dict) and isinstance(value.get("c"), dict):
            return {**{key: option for key, option in value.items() if key != "c"}, **value["c"]}
        return value

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Return the batch with the message of each row in ``value_field``."""
        rows = select_written(batch, self.value_field, self.fields_to_include, self.message_type)
        return [add_payloads(batch, self.value_field, self.write(rows))]

    def row_wise(self) -> bool:
        """Tell that a batch may be halved to find a row that cannot be written."""
        return True
