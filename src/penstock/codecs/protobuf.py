"""Protobuf: one message for each row, of a type that .proto files define."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa

from ..component import Codec
from ..delivery import Batch, Decoder
from ..protobuf import ProtobufSchema


class Protobuf(Codec, ProtobufSchema, type="protobuf"):
    """Protobuf: one message for each row, of a type that .proto files define.

    Each field is a column. Nested messages are structs, repeated fields lists, maps maps, enums their numbers. A
    field that tells whether it is set (``optional``, in a ``oneof``, a message, in proto2) is null where it is not;
    other fields have their default. ``Timestamp`` and ``Duration`` are times and durations in nanoseconds, wrappers
    values that may be null; ``Struct``, ``Value``, ``ListValue`` and messages that may contain themselves are JSON
    text. Fields that the files do not know are left out.

    Written, a null or a column that is missing leaves its field unset, a value that a field cannot hold exactly
    refuses its row, and columns that are no fields of the message are left out.

    Example::

        type: protobuf
        message_type: Reading
        proto: |
          syntax = "proto3";
          message Reading {
            string sensor = 1;
            double celsius = 2;
          }
    """

    extra: ClassVar[str] = "protobuf"

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        """Return a row for each payload; raises PermanentError for one that is not such a message."""
        return self.read(payloads)

    def decoder(self, columns: frozenset[str] | None = None) -> Decoder:
        """Return a decoder of the columns that anyone reads."""
        return lambda payloads: self.read(payloads, columns)

    def encode(self, batch: Batch) -> pa.BinaryArray:
        """Return a message for each row; raises PermanentError for a value that its field cannot hold."""
        return self.write(batch)

    def check_lines(self) -> None:
        """Raise ValueError: a message may hold any byte."""
        raise ValueError("messages may hold newlines: use `framing: length_delimited` or `framing: whole`")
