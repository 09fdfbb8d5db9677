"""The packets of MQTT 3.1.1 and 5, as far as a client reads and writes them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 12, 13, 14
MAX_REMAINING = 268_435_455

_USER_PROPERTY = 0x26
_SIZES = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), 1),
    **dict.fromkeys((0x13, 0x21, 0x22, 0x23), 2),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), 4),
}
"""How many bytes the value of a property has, where it has a fixed size."""
_TEXTS = (0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F)
MAX_PACKET_PROPERTY, RECEIVE_MAXIMUM, SESSION_EXPIRY, ASSIGNED_ID, REASON = 0x27, 0x21, 0x11, 0x12, 0x1F


class Malformed(Exception):
    """What came cannot be read as a packet of MQTT."""


class Packet(NamedTuple):
    """A packet as it came: its type, its flags and what follows the length."""

    type: int
    flags: int
    body: memoryview


class Message(NamedTuple):
    """A published message."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int
    """0 if it is not to be acked."""
    properties: tuple[tuple[str, str], ...]
    """The user properties, of MQTT 5."""


def divide(data: bytes, most: int) -> tuple[list[Packet], int]:
    """Return the whole packets in ``data`` and their bytes; raises Malformed for one larger than ``most``."""
    found: list[Packet] = []
    view, at = memoryview(data), 0
    end = len(data)
    while end - at >= 2:
        size = shift = 0
        start = at + 1
        while True:
            if start >= end:
                return found, at
            byte = data[start]
            size |= (byte & 127) << shift
            start += 1
            if byte < 128:
                break
            shift += 7
            if shift > 21:
                raise Malformed("a length of more than four bytes")
        if size + start - at > most:
            raise Malformed(f"a packet of {size + start - at} bytes, the most is {most}")
        if start + size > end:
            break
        found.append(Packet(data[at] >> 4, data[at] & 15, view[start : start + size]))
        at = start + size
    return found, at


def read_message(packet: Packet, version: int) -> Message:
    """Read a PUBLISH packet."""
    body = packet.body
    size = (body[0] << 8) | body[1]
    topic = str(body[2 : 2 + size], "utf-8", "replace")
    at, qos, number = 2 + size, (packet.flags >> 1) & 3, 0
    if qos:
        number = (body[at] << 8) | body[at + 1]
        at += 2
    properties: tuple[tuple[str, str], ...] = ()
    if version == 5:
        if body[at] == 0:
            at += 1
        else:
            found, at = read_properties(body, at)
            properties = tuple(value for key, value in found if key == _USER_PROPERTY)  # type: ignore[misc]
    return Message(topic, bytes(body[at:]), qos, bool(packet.flags & 1), number, properties)


def read_properties(body: memoryview, at: int) -> tuple[list[tuple[int, object]], int]:
    """Return the properties that begin at ``at``, and where they end."""
    length, at = _read_length(body, at)
    end = at + length
    found: list[tuple[int, object]] = []
    while at < end:
        key = body[at]
        at += 1
        value: object
        if key == 0x0B:
            value, at = _read_length(body, at)
        elif key in _SIZES:
            value, at = int.from_bytes(body[at : at + _SIZES[key]]), at + _SIZES[key]
        elif key == _USER_PROPERTY:
            name, at = _read_text(body, at)
            text, at = _read_text(body, at)
            value = (name, text)
        elif key in _TEXTS:
            value, at = _read_text(body, at)
        else:
            raise Malformed(f"a property that is not known: {key}")
        found.append((key, value))
    return found, end


def _read_length(body: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7


def _read_text(body: memoryview, at: int) -> tuple[str, int]:
    size = (body[at] << 8) | body[at + 1]
    return str(body[at + 2 : at + 2 + size], "utf-8", "replace"), at + 2 + size


def packet(type: int, flags: int, body: bytes) -> bytes:
    """Return a packet."""
    return bytes([type << 4 | flags]) + _length(len(body)) + body


def _length(value: int) -> bytes:
    found = bytearray()
    while True:
        value, byte = value >> 7, value & 127
        found.append(byte | 128 if value else byte)
        if not value:
            return bytes(found)


def _text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    if len(data) > 65_535:
        raise Malformed(f"a text of {len(data)} bytes, the most is 65535")
    return struct.pack(">H", len(data)) + data


def _properties(version: int, found: Sequence[tuple[int, bytes]]) -> bytes:
    if version != 5:
        return b""
    body = b"".join(bytes([key]) + value for key, value in found)
    return _length(len(body)) + body


def connect(
    version: int,
    client_id: str,
    *,
    clean: bool,
    keep_alive: int,
    username: str | None,
    password: str | None,
    session_expiry: int,
    receive_maximum: int,
    most: int,
) -> bytes:
    """Return the packet that opens a session."""
    flags = (2 if clean else 0) | (128 if username is not None else 0) | (64 if password is not None else 0)
    told = [
        (SESSION_EXPIRY, struct.pack(">I", 0 if clean else session_expiry)),
        (RECEIVE_MAXIMUM, struct.pack(">H", receive_maximum)),
        (MAX_PACKET_PROPERTY, struct.pack(">I", most)),
    ]
    body = _text("MQTT") + bytes([version, flags]) + struct.pack(">H", keep_alive) + _properties(version, told)
    body += _text(client_id) + b"".join(_text(value) for value in (username, password) if value is not None)
    return packet(CONNECT, 0, body)


def subscribe(version: int, packet_id: int, topics: Sequence[str], qos: int) -> bytes:
    """Return the packet that subscribes to topics."""
    body = struct.pack(">H", packet_id) + _properties(version, ())
    return packet(SUBSCRIBE, 2, body + b"".join(_text(topic) + bytes([qos]) for topic in topics))


def publish(version: int, topic: bytes, payload: bytes, qos: int, *, retain: bool, packet_id: int) -> bytes:
    """Return the packet that publishes a message; ``topic`` is in UTF-8."""
    number = struct.pack(">H", packet_id) if qos else b""
    body = struct.pack(">H", len(topic)) + topic + number + (b"\0" if version == 5 else b"") + payload
    return bytes([PUBLISH << 4 | qos << 1 | retain]) + _length(len(body)) + body


def acks(type: int, packet_ids: Sequence[int]) -> bytes:
    """Return the packets that ack messages, or steps of QoS 2."""
    head = bytes([type << 4 | (2 if type == PUBREL else 0), 2])
    return b"".join([head + struct.pack(">H", number) for number in packet_ids])


def read_id(body: memoryview) -> int:
    """Return the number that a packet is about."""
    return (body[0] << 8) | body[1]


def refusals(codes: memoryview) -> Iterator[tuple[int, int]]:
    """Return each topic, by its index, that was not granted, and the code why."""
    for index, code in enumerate(codes):
        if code >= 128:
            yield index, code


REASONS = {
    (4, 1): "the protocol version is not supported",
    (4, 2): "the client id is not accepted",
    (4, 3): "the server is not available",
    (4, 4): "user name or password are wrong",
    (4, 5): "not authorized",
    (5, 0x84): "the protocol version is not supported",
    (5, 0x85): "the client id is not accepted",
    (5, 0x86): "user name or password are wrong",
    (5, 0x87): "not authorized",
    (5, 0x88): "the server is not available",
    (5, 0x89): "the server is busy",
    (5, 0x8A): "banned",
    (5, 0x8E): "another client took over the session: a client id has to be unique",
    (5, 0x95): "a packet was too large",
    (5, 0x97): "a quota is exceeded",
    (5, 0x99): "the format of a payload is wrong",
}
"""What codes mean, by version."""


def reason(version: int, code: int) -> str:
    """Return what a code means."""
    return REASONS.get((version, code), f"code {code}")
