"""Protobuf: messages that .proto files define, as Arrow columns."""

from __future__ import annotations

from typing import Any, Self

import pyarrow as pa
from google.protobuf.message import DecodeError, EncodeError
from pydantic import Field, PrivateAttr, model_validator

from ..delivery import Batch
from ..errors import ConfigError, PermanentError
from ..options import Options
from .decoding import read
from .encoding import write
from .schema import Message, Source, find_message


class ProtobufSchema(Options):
    """Which messages there are, and which of them payloads hold."""

    proto_inputs: tuple[str, ...] = ()
    """The .proto files, or folders of them."""
    proto_includes: tuple[str, ...] = ()
    """The folders in which imports are looked for; by default those of `proto_inputs`."""
    proto: str = ""
    """The text of a .proto file, instead of `proto_inputs`."""
    message_type: str = Field(min_length=1)
    """The full name of the message, its package included: `sensors.Reading`."""

    _message: Message = PrivateAttr()

    @model_validator(mode="after")
    def _compile(self) -> Self:
        if bool(self.proto) == bool(self.proto_inputs):
            raise ValueError("expected either `proto_inputs` or `proto`")
        try:
            source = Source.of(self.proto, self.proto_inputs, self.proto_includes)
            self._message = find_message(source, self.message_type)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def read(self, payloads: pa.BinaryArray, wanted: frozenset[str] | None = None) -> Batch:
        """Return a row for each payload; raises PermanentError for one that is not such a message."""
        return read_payloads(self._message, payloads, wanted)

    def write(self, batch: Batch) -> pa.BinaryArray:
        """Return a message for each row; raises PermanentError for a value that its field cannot hold."""
        return write_payloads(self._message, batch)


def read_payloads(message: Message, payloads: pa.BinaryArray, wanted: frozenset[str] | None = None) -> Batch:
    """Return a row for each payload; raises PermanentError for one that is not such a message."""
    parse, name = message.make.FromString, message.descriptor.full_name
    try:
        messages: list[Any] = [parse(payload) for payload in payloads.to_pylist()]
        rows = read(message, messages, wanted)
    except (DecodeError, UnicodeDecodeError) as error:
        raise PermanentError(f"this is no {name}: {str(error)[:200]}") from error
    for one in messages if message.has_required else ():
        if missing := one.FindInitializationErrors():
            raise PermanentError(f"this is no {name}: {', '.join(missing)[:200]} is required")
    return rows


def write_payloads(message: Message, batch: Batch) -> pa.BinaryArray:
    """Return a message for each row; raises PermanentError for a value that its field cannot hold."""
    try:
        messages = [one.SerializeToString(deterministic=True) for one in write(message.descriptor, batch)]
    except (EncodeError, ValueError, TypeError) as error:
        raise PermanentError(f"the row is no {message.descriptor.full_name}: {str(error)[:200]}") from error
    return pa.array(messages, pa.binary())
