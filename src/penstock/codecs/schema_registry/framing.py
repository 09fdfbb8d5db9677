"""Confluent's framing: a zero byte, the number of the schema, and in Protobuf the place of the message in it."""

from __future__ import annotations

import struct

import pyarrow as pa

from ...errors import PermanentError, RowsRejected

HEADER_SIZE = 5
MAX_DEPTH = 64
"""How deep a message may be nested in others."""


def split(payloads: pa.BinaryArray) -> tuple[list[int], list[bytes]]:
    """Return the number of each payload's schema, and what follows it; raises RowsRejected for those without."""
    found: list[bytes] = payloads.to_pylist()
    if unframed := [row for row, one in enumerate(found) if len(one) < HEADER_SIZE or one[0]]:
        reason = "this does not begin with a zero byte and the number of a schema"
        raise RowsRejected(dict.fromkeys(unframed, reason))
    return [int.from_bytes(one[1:HEADER_SIZE], "big") for one in found], [one[HEADER_SIZE:] for one in found]


def frame(number: int, prefix: bytes, payloads: pa.BinaryArray) -> pa.BinaryArray:
    """Return payloads with the number of their schema, and the place of their message, before them."""
    head = struct.pack(">bI", 0, number) + prefix
    return pa.array([head + payload for payload in payloads.to_pylist()], pa.binary())


def read_place(body: bytes) -> tuple[tuple[int, ...], int]:
    """Return the place of a message, and where the message begins; raises PermanentError if it is cut off."""
    count, at = _read_number(body, 0)
    if count == 0:
        return (0,), at
    if not 0 < count <= MAX_DEPTH:
        raise PermanentError(f"the payload tells a place of {count} numbers for its message")
    place = []
    for _ in range(count):
        number, at = _read_number(body, at)
        place.append(number)
    return tuple(place), at


def write_place(place: tuple[int, ...]) -> bytes:
    """Return the place of a message as it stands before it."""
    if place == (0,):
        return b"\0"
    return b"".join(_write_number(number) for number in (len(place), *place))


def _read_number(body: bytes, at: int) -> tuple[int, int]:
    """Return a number in zigzag encoding, and where the next begins."""
    found = shift = 0
    while True:
        if at >= len(body) or shift > 63:
            raise PermanentError("the payload ends before its message begins")
        byte = body[at]
        found |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (found >> 1) ^ -(found & 1), at


def _write_number(number: int) -> bytes:
    left, found = number << 1, bytearray()
    while left > 0x7F:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    found.append(left)
    return bytes(found)
