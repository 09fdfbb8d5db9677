"""Where the next page begins: an opaque text that is read back only by the question that it was given for."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Integer, Text

from ..columns import Moment
from .paging import Key
from .parameters import wrong

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def written(key: Key | None, *question: object) -> str | None:
    """Return the cursor after ``key``; None at the end."""
    if key is None:
        return None
    values = [(value - _EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value for value in key]
    content = msgspec.msgpack.encode([_print(question), values])
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def read(cursor: str | None, columns: Sequence[Column[Any]], *question: object) -> Key | None:
    """Return the key of a cursor; raises ApiError if it is none, or of another question.

    It needs no signature: it says where to go on, not whose rows, and every value is checked against its column.
    """
    if cursor is None:
        return None
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found, values = msgspec.msgpack.decode(content, type=tuple[bytes, list[int | str]])
        key = tuple(_value(value, column) for value, column in zip(values, columns, strict=True))
    except (binascii.Error, msgspec.DecodeError, ValueError, OverflowError, UnicodeError):
        raise wrong("cursor", "is not one that this service gave out") from None
    if found != _print(question):
        raise wrong("cursor", "was given out for another question; leave the other parameters as they were") from None
    return key


def _value(value: int | str, column: Column[Any]) -> Any:
    if isinstance(column.type, Moment) and isinstance(value, int):
        return _EPOCH + timedelta(microseconds=value)
    if isinstance(column.type, Text) and isinstance(value, str) and "\x00" not in value:
        value.encode()
        return value
    if isinstance(column.type, Integer) and isinstance(value, int):
        bits = 63 if isinstance(column.type, BigInteger) else 31
        if -(2**bits) <= value < 2**bits:
            return value
    raise ValueError(column.name)


def _print(question: Sequence[object]) -> bytes:
    return hashlib.blake2b(repr(question).encode("utf-8", "replace"), digest_size=8).digest()
