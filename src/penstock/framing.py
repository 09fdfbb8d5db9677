"""Where one payload of a byte stream ends and the next begins; apart from the codec, which reads the payloads."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .errors import PermanentError

Data: TypeAlias = bytes | bytearray | memoryview | pa.Buffer
MAX_BYTES = 64 << 20
"""The longest frame that is believed, unless the caller says otherwise."""
_NEWLINE, _RETURN = 0x0A, 0x0D
_HEADER = 4


class Framing(StrEnum):
    """How payloads follow one another in a byte stream."""

    LINES = "lines"
    LENGTH_DELIMITED = "length_delimited"
    WHOLE = "whole"


def split(
    framing: Framing, data: Data, *, final: bool, keep_ends: bool = False, most_bytes: int = MAX_BYTES
) -> tuple[pa.BinaryArray, int]:
    """Return the complete payloads at the start of ``data`` and how many bytes they took.

    What follows the last complete payload is not taken: it is to be given again with more data behind it, or,
    when there is no more, with ``final``, which ends a last line that has no newline and makes an unfinished
    length-delimited frame a PermanentError. With ``keep_ends`` lines keep their newlines and blank lines stay,
    so that the payloads are a view of ``data`` and not a copy. Frames longer than ``most_bytes`` are a PermanentError.
    """
    buffer = data if isinstance(data, pa.Buffer) else pa.py_buffer(data)
    if framing is Framing.LINES:
        return _split_lines(buffer, final, keep_ends)
    if framing is Framing.LENGTH_DELIMITED:
        return _split_lengths(buffer, final, most_bytes)
    if not final or not buffer.size:
        return _payloads(np.zeros(1, np.int32), buffer), 0
    return _payloads(np.array([0, buffer.size], np.int32), buffer), buffer.size


def join(framing: Framing, payloads: pa.BinaryArray) -> pa.Buffer:
    """Return the bytes that ``split`` takes apart into these payloads again; null payloads are left out.

    Copies nothing when the payloads are lines that end in newlines already. A line that holds a newline within
    reads back as two.
    """
    payloads = payloads.drop_null()
    if framing is Framing.LINES:
        return _joined_lines(payloads)
    if framing is Framing.LENGTH_DELIMITED:
        lengths = np.diff(offsets(payloads)).astype(">u4")
        headers = pa.Array.from_buffers(pa.binary(_HEADER), len(lengths), [None, pa.py_buffer(lengths)])
        payloads = pc.binary_join_element_wise(headers.cast(pa.binary()), payloads, b"")
    return contents(payloads)


def offsets(payloads: pa.BinaryArray) -> np.ndarray:
    """Return where each payload starts in the data buffer, and where the last one ends."""
    buffer = payloads.buffers()[1]
    if buffer is None or not len(payloads):
        return np.zeros(1, np.int32)
    return np.frombuffer(buffer, np.int32, len(payloads) + 1, payloads.offset * 4)


def contents(payloads: pa.BinaryArray) -> pa.Buffer:
    """Return the bytes of all payloads, one after another, as a view."""
    starts, data = offsets(payloads), payloads.buffers()[2]
    if data is None:
        return pa.py_buffer(b"")
    return data.slice(int(starts[0]), int(starts[-1] - starts[0]))


def _payloads(starts: np.ndarray, data: pa.Buffer) -> pa.BinaryArray:
    return pa.BinaryArray.from_buffers(pa.binary(), len(starts) - 1, [None, pa.py_buffer(starts), data])


def _split_lines(data: pa.Buffer, final: bool, keep_ends: bool) -> tuple[pa.BinaryArray, int]:
    if data.size > np.iinfo(np.int32).max:
        raise PermanentError(f"{data.size} bytes are too many to split at once: expected less than 2 GiB")
    starts = _line_starts(data, final)
    taken = int(starts[-1])
    if keep_ends or not taken:
        return _payloads(starts, data), taken
    text = data[:taken].to_pybytes()
    if b"\r\n" in text:
        text = text.replace(b"\r\n", b"\n")
        starts = _line_starts(pa.py_buffer(text), final=True)
    newlines = np.arange(len(starts), dtype=np.int32)
    newlines[-1] -= text[-1] != _NEWLINE
    ends = starts - newlines
    filled = np.concatenate(([True], ends[1:] != ends[:-1]))
    return _payloads(ends[filled], pa.py_buffer(text.replace(b"\n", b""))), taken


def _line_starts(data: pa.Buffer, final: bool) -> np.ndarray:
    found = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
    unfinished = final and data.size > (found[-1] + 1 if len(found) else 0)
    starts = np.empty(len(found) + 1 + unfinished, np.int32)
    starts[0] = 0
    np.add(found, 1, out=starts[1 : len(found) + 1], casting="same_kind")
    if unfinished:
        starts[-1] = data.size
    return starts


def _joined_lines(payloads: pa.BinaryArray) -> pa.Buffer:
    ended = ends_in_newline(payloads)
    if not ended.any() and len(payloads):
        return contents(_joined(payloads, b"\n"))
    if not ended.all():
        payloads = pc.binary_join_element_wise(payloads, pc.if_else(pa.array(ended), b"", b"\n"), b"")
    return contents(payloads)


def _joined(payloads: pa.BinaryArray, between: bytes) -> pa.BinaryArray:
    """Return one payload: all of them, with ``between`` behind each."""
    starts, data = offsets(payloads), payloads.buffers()[2]
    with_end = _payloads(np.append(starts, starts[-1]), data)
    return pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(with_end)], pa.int32()), with_end), between)


def ends_in_newline(payloads: pa.BinaryArray) -> np.ndarray:
    """Tell which of the payloads end in a newline."""
    starts, data = offsets(payloads), payloads.buffers()[2]
    if data is None or not data.size:
        return np.zeros(len(payloads), bool)
    last: np.ndarray = np.frombuffer(data, np.uint8)[np.maximum(starts[1:] - 1, 0)] == _NEWLINE
    return last & (starts[1:] > starts[:-1])


def first_and_last_bytes(payloads: pa.BinaryArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first byte of each payload, and the last one before the end of its line.

    No payload may be empty. Where nothing stands before the end of a line the last byte is the first.
    """
    starts = offsets(payloads).astype(np.intp)
    data = np.frombuffer(payloads.buffers()[2], np.uint8)
    first, at = data[starts[:-1]], starts[1:] - 1
    last = data[at]
    for end in (_NEWLINE, _RETURN):
        found = last == end
        if found.any():
            at = np.maximum(at - found, starts[:-1])
            last = data[at]
    return first, last


def _split_lengths(data: pa.Buffer, final: bool, most_bytes: int) -> tuple[pa.BinaryArray, int]:
    view, frames, at = memoryview(data).cast("B"), [], 0
    while at + _HEADER <= data.size:
        length = int.from_bytes(view[at : at + _HEADER], "big")
        if length > most_bytes:
            raise PermanentError(f"a frame says it is {length} bytes long: expected at most {most_bytes}")
        if at + _HEADER + length > data.size:
            break
        frames.append(view[at + _HEADER : at + _HEADER + length])
        at += _HEADER + length
    if final and at < data.size:
        raise PermanentError(f"the data ends within a frame: its last {data.size - at} bytes are not a whole one")
    starts = np.zeros(len(frames) + 1, np.int32)
    np.cumsum([len(frame) for frame in frames], out=starts[1:])
    return _payloads(starts, pa.py_buffer(b"".join(frames))), at
