"""CBOR (RFC 8949): a map for each row."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from typing import Any, ClassVar

import cbor2
import pyarrow as pa

from ..component import Codec
from ..delivery import Batch, Decoder
from ..errors import PermanentError
from ._values import Moment, decoder, plain_rows

_MAX_DEPTH = 64
_DATE_TEXT, _EPOCH, _SHAREABLE, _SHARED = 0, 1, 28, 29
"""Tags: a time as text, seconds since 1970, and values that stand in several places."""
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")


class Cbor(Codec, type="cbor"):
    """CBOR (RFC 8949): a payload is a map, which is one row.

    Whole numbers of any size up to 76 digits, floating point, texts, bytes, lists, maps, decimals (tag 4), dates (tag
    1004) and times (tags 0 and 1) come with their types; a time is exact to the nanosecond where it is a text. Other
    tags, undefined values, keys that are not texts, a key that comes twice, values that contain themselves or are
    nested deeper than 64, and bytes behind the map refuse the payload, and so does a column whose values are of several
    kinds. Types once learned stay while a stream runs.

    Written, times in UTC are texts with tag 0; times of day, durations and local times are texts; a null is null, and a
    field that the row lacks is left out.

    Example::

        type: cbor
    """

    extra: ClassVar[str] = "cbor"
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
            packed = [cbor2.dumps(_writable(row), date_as_datetime=False) for row in plain_rows(batch)]
        except (cbor2.CBORError, ValueError, TypeError, OverflowError) as error:
            raise PermanentError(f"the rows cannot be written as CBOR: {str(error)[:240]}") from error
        return pa.array(packed, pa.binary())


def _read(payload: bytes) -> Any:
    source = io.BytesIO(payload)
    try:
        reader = cbor2.CBORDecoder(
            source,
            read_size=1,
            max_depth=_MAX_DEPTH,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders={_DATE_TEXT: _text, _EPOCH: _seconds, _SHAREABLE: _refuse, _SHARED: _refuse},
        )
        found = reader.decode()
        if source.tell() < len(payload):
            raise PermanentError(f"{len(payload) - source.tell()} bytes follow the value")
        return found
    except Exception as error:  # a damaged payload makes the reader fail in any way
        if isinstance(error, PermanentError) or isinstance(error.__cause__, PermanentError):
            raise error if isinstance(error, PermanentError) else error.__cause__ from None  # type: ignore[misc]
        reason = f"{type(error).__name__}: {str(error)[:120]}"
        raise PermanentError(f"the payload is not one value of CBOR, or is cut off: {reason}") from error


def _text(text: Any, immutable: bool) -> Moment:
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise PermanentError(f"expected a time as in RFC 3339, found {text!r:.80}")
    moment = datetime.fromisoformat(found[1] + found[3].upper().replace("Z", "+00:00"))
    whole = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return Moment((whole.days * 86400 + whole.seconds) * 10**9 + int((found[2] or "0").ljust(9, "0")))


def _seconds(seconds: Any, immutable: bool) -> Moment:
    if isinstance(seconds, int) and not isinstance(seconds, bool):
        return Moment(seconds * 10**9)
    if isinstance(seconds, float) and abs(seconds) < 2**53:  # a double has microseconds of our time, and no more
        return Moment(round(seconds * 10**6) * 1000)
    raise PermanentError(f"expected seconds since 1970, found {seconds!r:.80}")


def _refuse(value: Any, immutable: bool) -> Any:
    raise PermanentError("a value stands in several places (tags 28 and 29): such values are not read")


def _writable(value: Any) -> Any:
    if isinstance(value, Moment):
        seconds, rest = divmod(value.ns, 10**9)
        try:
            whole = datetime.fromtimestamp(seconds, UTC)
        except (OverflowError, ValueError, OSError) as error:
            raise PermanentError("a time is outside of the years 1 to 9999") from error
        fraction = f".{rest:09}".rstrip("0").rstrip(".")
        return cbor2.CBORTag(_DATE_TEXT, f"{whole:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + f"{fraction}Z")
    if isinstance(value, dict):
        return {key: _writable(item) for key, item in value.items()}
    return [_writable(item) for item in value] if isinstance(value, list) else value
