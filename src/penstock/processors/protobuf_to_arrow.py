"""Read Protobuf messages into columns, keeping everything else the batch holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..component import Processor
from ..delivery import Batch
from ..metadata import VALUE
from ..protobuf import ProtobufSchema
from ._payloads import replace_payloads, take_payloads


class ProtobufToArrow(Processor, ProtobufSchema, type="protobuf_to_arrow"):
    """Read Protobuf messages into columns, keeping everything else the batch holds.

    Each payload is one message, read as by the codec ``protobuf``. The column of payloads gives way to the columns
    read; metadata and all other columns are kept. A column read replaces one of the same name, but never metadata.

    Example::

        type: protobuf_to_arrow
        message_type: Reading
        proto: |
          syntax = "proto3";
          message Reading {
            string sensor = 1;
            double celsius = 2;
          }
    """

    extra: ClassVar[str] = "protobuf"

    value_field: str = VALUE
    """The column of payloads, Binary or text."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Return the batch with the fields of each message as columns."""
        rows = self.read(take_payloads(batch, self.value_field, self.message_type))
        return [replace_payloads(batch, self.value_field, rows)]

    def row_wise(self) -> bool:
        """Tell that a batch may be halved to find the bad payload."""
        return True
