"""MessagePack: a map for each row."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any, ClassVar

import msgpack
import pyarrow as pa

from ..component import Codec
from ..delivery import Batch, Decoder
from ..errors import PermanentError
from ._values import Moment, decoder, plain_rows


class Msgpack(Codec, type="msgpack"):
    """MessagePack: a payload is a map, which is one row.

    Whole numbers, floating point, texts, bytes, lists and maps come as they are; the timestamp extension is a time in
    UTC, exact to the nanosecond. Whole numbers beyond 64 bits do not exist in the format. Other extensions, keys that
    are not texts, a key that comes twice, and bytes behind the map refuse the payload, and so does a column whose
    values are of several kinds. Types once learned stay while a stream runs.

    Written, decimals, dates, times of day, durations and local times are texts; a null is nil, and a field that the row
    lacks is left out.

    Example::

        type: msgpack
    """

    extra: ClassVar[str] = "msgpack"
    tells_absent: ClassVar[bool] = True

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        """Return the rows of all payloads; raises PermanentError if one is damaged or cut off."""
        return decoder(_read)(payloads)

    def decoder(self, columns: frozenset[str] | None = None) -> Decoder:
        """Return a decoder that keeps the types it has learned, and reads no other columns than ``columns``."""
        return decoder(_read, columns)

    def encode(self, batch: Batch) -> pa.BinaryArray:
        """Return a map for each row; raises PermanentError for what the format cannot hold."""
        try:
            packed = [msgpack.packb(_writable(row), use_bin_type=True) for row in plain_rows(batch)]
        except (ValueError, TypeError, OverflowError) as error:
            raise PermanentError(f"the rows cannot be written as MessagePack: {str(error)[:240]}") from error
        return pa.array(packed, pa.binary())


def _read(payload: bytes) -> Any:
    try:
        return msgpack.unpackb(
            payload, raw=False, timestamp=0, strict_map_key=False, object_pairs_hook=_map, ext_hook=_refuse
        )
    except PermanentError:
        raise
    except Exception as error:  # a damaged payload makes the reader fail in any way
        reason = f"{type(error).__name__}: {str(error)[:120]}"
        raise PermanentError(f"the payload is not one value of MessagePack, or is cut off: {reason}") from error


def _map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = {key: _read_value(value) for key, value in pairs}
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise PermanentError(f"the key {twice!r} comes twice in a map")
    return found


def _read_value(value: Any) -> Any:
    if isinstance(value, msgpack.Timestamp):
        return Moment(value.to_unix_nano())
    return [_read_value(item) for item in value] if isinstance(value, list) else value


def _refuse(code: int, data: bytes) -> Any:
    raise PermanentError(f"the payload has an extension of type {code}, which is not known")


def _writable(value: Any) -> Any:
    if isinstance(value, Moment):
        return msgpack.Timestamp(*divmod(value.ns, 10**9))
    if isinstance(value, dict):
        return {key: _writable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_writable(item) for item in value]
    return str(value) if isinstance(value, Decimal | date) else value
