"""Read messages that stand in the configuration: for trials and tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import to_jsonable_python

from ..checkpoint import Checkpoint
from ..component import Input, Reader
from ..context import Context
from ..delivery import Batch, Delivery
from ..errors import EndOfInput
from ..literal import json_text
from ..metadata import Origin, payloads


def _message(value: Any) -> Any:
    if isinstance(value, (str, bytes, pa.RecordBatch)):
        return value
    return json_text(value)


def _written(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, pa.RecordBatch):
        return to_jsonable_python(value.to_pylist(), fallback=str, bytes_mode="base64")
    return value


Message = Annotated[
    Any,
    BeforeValidator(_message),
    PlainSerializer(_written, when_used="json"),
    WithJsonSchema({"type": ["string", "object", "array", "number", "boolean", "null"]}),
]


class Memory(Input, type="memory"):
    """Deliver the given messages, one after the other, and end.

    Each message is one delivery of one row. The position is the number of messages delivered, so a restart
    goes on after the last acked one. In Python a message may also be ``bytes``, or a record batch, which is
    delivered as it is.

    Example::

        type: memory
        messages:
          - '{"sensor": "temp_1", "value": 42}'
          - {sensor: temp_2, value: 43}
        codec: json
    """

    messages: list[Message] = []
    """The messages: texts, or mappings and lists that become JSON texts."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Begin after the last acked message."""
        yield _MessageReader(self.messages, await context.checkpoint())

    def reads_metadata(self) -> bool:
        """Return False: what a message holds is nobody's question."""
        return False


class _MessageReader:
    def __init__(self, messages: list[Message], checkpoint: Checkpoint) -> None:
        self._messages, self._checkpoint = messages, checkpoint
        self._next = checkpoint.position_as(int) or 0

    async def read(self) -> Delivery:
        if self._next >= len(self._messages):
            raise EndOfInput
        batch = _batch(self._messages[self._next])
        delivery = await self._checkpoint.deliver(batch, self._next + 1, Origin("memory", offset=self._next))
        self._next += 1
        return delivery


def _batch(message: str | bytes | Batch) -> Batch:
    if isinstance(message, pa.RecordBatch):
        return message
    payload = message.encode() if isinstance(message, str) else message
    return payloads([payload])
