"""Read Avro files: the blocks they consist of, and the rows of a block."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ... import framing
from ...component import Codec
from ...delivery import Batch, Decoder
from ...errors import PermanentError
from .content import Content
from .payloads import MAX_PAYLOAD_BYTES
from .splitters import Cut

_MAGIC = b"Obj\x01"
_SYNC = 16
_HEAD = 64 << 10


class Blocks:
    """The blocks of an Avro file, each a payload; one that is damaged ends at the next synchronisation marker."""

    def __init__(self) -> None:
        self.decoder: Decoder | None = None
        self._sync = b""

    def begin(self, content: Content, final: bool) -> int | None:
        """Return where the first block starts; raises PermanentError if this is not an Avro file."""
        size = _HEAD
        while True:
            head = content.read_at(0, size)
            end = _header_end(head)
            if end is not None:
                break
            if len(head) < size or size >= MAX_PAYLOAD_BYTES:
                raise PermanentError("the header is incomplete")
            size *= 2
        self._sync = head[end - _SYNC : end]
        self.decoder = BlockDecoder(head[:end])
        return end

    def split(self, data: bytes, within: int, final: bool) -> Cut:
        """Return the complete blocks and how many rows they say they hold."""
        starts, at, rows = [0], 0, 0
        while at < len(data):
            end, count = self._block(data, at, final)
            if end is None:
                break
            at, rows = end, rows + count
            starts.append(at)
        buffers = [None, pa.py_buffer(np.array(starts, np.int32)), pa.py_buffer(data)]
        return Cut(pa.BinaryArray.from_buffers(pa.binary(), len(starts) - 1, buffers), at, rows=rows)

    def _block(self, data: bytes, at: int, final: bool) -> tuple[int | None, int]:
        """Where the block at ``at`` ends, and its rows; None while it is not complete."""
        count, after = _number(data, at)
        size, start = _number(data, after)
        end = start + size + _SYNC
        believable = start > after > at and 0 <= size <= MAX_PAYLOAD_BYTES and count >= 0
        if believable and end <= len(data) and data[end - _SYNC : end] == self._sync:
            return end, count
        if believable and end > len(data) and not final:
            return None, 0
        if (marker := data.find(self._sync, at + 1)) >= 0:
            return marker + _SYNC, 0  # its decoder refuses it
        if final and at == 0:
            raise PermanentError("the file ends within a block")
        return None, 0


def _header_end(head: bytes) -> int | None:
    if head[: len(_MAGIC)] != _MAGIC[: len(head)]:
        raise PermanentError("this is no Avro file: it does not begin with 'Obj'")
    at = len(_MAGIC)
    while at < len(head):
        count, at = _number(head, at)
        if count < 0:
            _, at = _number(head, at)
        if count == 0:
            return at + _SYNC if at + _SYNC <= len(head) else None
        for _ in range(2 * abs(count)):
            length, start = _number(head, at)
            if start == at or length < 0:
                return None
            at = start + length
    return None


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read a variable-length number; returns where it ends, ``at`` itself if it does not."""
    value = shift = 0
    for index in range(at, min(at + 10, len(data))):
        value |= (data[index] & 0x7F) << shift
        shift += 7
        if data[index] < 0x80:
            return (value >> 1) ^ -(value & 1), index + 1
    return 0, at


class BlockDecoder:
    """Decodes blocks of one Avro file, by its header."""

    def __init__(self, header: bytes) -> None:
        self._header, self._codec = header, Codec.find("avro")()
        self._codec.decode(pa.array([header], pa.binary()))  # a header that says nothing is an error of the file

    def __call__(self, payloads: pa.BinaryArray) -> Batch:
        """Return the rows of all blocks; raises PermanentError if any of them cannot be read."""
        file = self._header + framing.contents(payloads).to_pybytes()
        return self._codec.decode(pa.array([file], pa.binary()))
