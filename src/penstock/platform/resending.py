"""Send a dead letter again: through the processors of its stream and into its output, beside the stream."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from ..codecs.json import Json
from ..component import Codec, Input, Writer
from ..context import Context
from ..delivery import Batch, Delivery
from ..errors import PermanentError
from ..inputs.file import File
from ..inputs.file.listing import EXTENSIONS, extension_of
from ..metadata import Origin, payloads
from ..runtime.threads import Threads
from ..runtime.transform import Stage, Transformation, Transformed
from ..stream import Stream
from .letters import metadata_of
from .streams import has_groups

OUTPUTS = frozenset({"sql", "http", "memory", "drop"})
"""Outputs that may be opened a second time beside the stream that has them open."""


def refusal(stream: Stream) -> str | None:
    """Return why dead letters of a stream cannot be sent again one by one, or None."""
    if has_groups(stream) or not all(one.row_wise() for one in stream.pipeline.processors):
        return f"the stream {stream.id!r} groups or remembers rows: one of them cannot be sent again by itself"
    if stream.output.type_name not in OUTPUTS:
        return f"an output of type {stream.output.type_name!r} cannot be opened a second time beside its stream"
    return None


async def send_again(stream: Stream, row: Mapping[str, Any], payload: str | None, context: Context) -> None:
    """Write a dead letter, or ``payload`` in its place; raises PermanentError, TransientError or ConnectionLost."""
    async with Again.open(stream, context) as again:
        await again.send(row, payload)


class Again:
    """A stream opened a second time, for its dead letters: its processors, and its output once something is written."""

    def __init__(self, stream: Stream, context: Context, stack: AsyncExitStack, transform: Transformation) -> None:
        self._stream, self._context, self._stack, self._transform = stream, context, stack, transform
        self._writer: Writer | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, stream: Stream, context: Context) -> AsyncIterator[Again]:
        """Open the processors; raises PermanentError where rows cannot be sent again one by one."""
        if (why := refusal(stream)) is not None:
            raise PermanentError(why)
        async with AsyncExitStack() as stack:
            threads = Threads(1, f"{stream.id}-again")
            stack.callback(threads.shutdown)
            stages = []
            for index, processor in enumerate(stream.pipeline.processors):
                lent = replace(context, name=f"{stream.id}/again.{index}")
                process = await stack.enter_async_context(processor.open(lent))
                stages.append(Stage(f"{index}.{processor.name or processor.type_name}", process, row_wise=True))
            yield cls(stream, context, stack, Transformation(stages, threads, decoder=None, metadata=True))

    async def attempt(self, row: Mapping[str, Any], payload: str | None) -> list[Batch]:
        """Return what would be written for a dead letter; raises PermanentError, TransientError or ConnectionLost."""
        content = payload.encode() if payload is not None else content_of(row)
        metadata = metadata_of(row)
        codec = _codec(_sender(self._stream.input, str(metadata.get("source", ""))), metadata)
        delivery = Delivery(payloads([content]), (), _origin(metadata), codec.decoder() if codec else None)
        done = await self._transform(Transformed(delivery))
        if done.error is not None:
            raise done.error
        if done.refusals:
            raise PermanentError(f"{done.refusals[0].stage}: {done.refusals[0].reason}")
        return [piece.batch for piece in done.pieces]

    async def send(self, row: Mapping[str, Any], payload: str | None) -> None:
        """Write a dead letter; it returns when the rows are durable. Raises what ``attempt`` does.

        Rows are written before the dead letter is dropped, so that a crash between leaves both.
        """
        batches = await self.attempt(row, payload)
        if not batches:
            return
        if self._writer is None:
            lent = replace(self._context, name=f"{self._stream.id}/again")
            self._writer = await self._stack.enter_async_context(self._stream.output.open(lent))
        await self._writer.write(batches)


def content_of(row: Mapping[str, Any]) -> bytes:
    """Return the payload of a dead letter; raises PermanentError without one."""
    payload = row["payload"]
    if payload is None:
        raise PermanentError("this dead letter has no payload")
    if row["encoding"] != "base64":
        return str(payload).encode()
    try:
        return base64.b64decode(payload, validate=True)
    except binascii.Error as error:
        raise PermanentError(f"the payload is not base64: {error}") from error


def _sender(input: Input, source: str) -> Input:
    """Return which of the inputs of a stream a row came from."""
    children = input.children().values()
    return next((child for child in children if source == (child.name or child.type_name)), input)


def _codec(input: Input, metadata: Mapping[str, Any]) -> Codec | None:
    """Return how a payload is read: as the input's are, or as JSON where what was refused had columns already."""
    codec = input.payload_codec()
    if codec is None and (input.codec is not None or _has_columns(input, metadata)):
        return Json()
    return codec


def _has_columns(input: Input, metadata: Mapping[str, Any]) -> bool:
    """Tell whether an input without a codec delivers columns rather than payloads; for files, by their names."""
    if not isinstance(input, File):
        return input.type_name == "sql"
    if input.format != "auto":
        return input.format != "text"
    ext = metadata.get("ext")
    extension = extension_of(str(ext.get("path", ""))) if isinstance(ext, Mapping) else ""
    return any(extension in known for name, known in EXTENSIONS.items() if name != "text")


def _origin(metadata: Mapping[str, Any]) -> Origin:
    ext = metadata.get("ext")
    offset = metadata.get("offset")
    return Origin(
        str(metadata.get("source", "")),
        offset=offset if isinstance(offset, int) else None,
        ext={str(name): str(value) for name, value in ext.items()} if isinstance(ext, Mapping) else {},
    )
