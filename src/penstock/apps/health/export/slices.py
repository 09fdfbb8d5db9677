"""A part of a body on its way from the cutter to the parsers: slices of JSON lists or CSV, not yet parsed."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec
import pyarrow as pa

from ..acceptance import Accepted


class Slice(msgspec.Struct, kw_only=True):
    """Some elements that follow one another in one list of a body.

    Sections are: ``metrics`` (``name`` and ``units`` of the metric, elements of its ``data``); ``internal`` (elements
    of ``metrics`` that say ``type`` and hold their values themselves); every other list of the envelope under its name
    as sent (``workouts``, ``symptoms``, ``cycleTracking``, ``stateOfMind``, ``medications``, ``ecg``,
    ``heartRateNotifications`` or unknown); ``workout_route`` and ``workout_series`` (``name``: the list of the workout
    as sent, ``heartRateData``); ``ecg_voltages``; ``domain`` (``name``: the list of the body as sent; which domain,
    says ``Accepted.form``); ``csv`` (``name``: the file or field).
    """

    section: str
    name: str = ""
    """The metric, list or file, as sent."""
    units: str | None = None
    """Of a metric, as sent."""
    field: str = ""
    """Of a file in a multipart body: the name of its field."""
    first: int = 0
    """The index of the first element in its list."""
    path: str = ""
    """Where the list is in the body: ``data.metrics[3].data``, ``data.workouts[0].route``."""
    payload: bytes = b"[]"
    """A JSON list of the elements; of ``csv``: the header line and the lines of the rows, UTF-8, ending in newlines.

    Elements of ``workouts`` and ``ecg`` come without the lists that are cut out: ``workout_route``,
    ``workout_series`` and ``ecg_voltages`` slices hold them."""
    parent: bytes | None = None
    """The workout or ECG of a list: its JSON object without lists and objects (id, name, start, end, source ...)."""
    parent_index: int | None = None
    """The place of the workout or ECG in its list."""
    count: int | None = None
    """How many elements the cutter counted; None where it did not."""
    reason: str | None = None
    """Why these elements cannot be read at all; parsers never see such a slice, it is quarantined before."""


class Part(msgspec.Struct, kw_only=True):
    """One of the parts of a body: what is parsed and committed together."""

    accepted: Accepted
    number: int
    last: bool
    slices: list[Slice] = []
    error: str | None = None
    """Why the whole body could not be read."""
    format: str | None = None
    """``v1``, ``v2``, ``internal``, ``csv``, ``domain``, or None if nothing tells."""
    canonical: str | None = None
    """SHA-256 of the content, whatever the order of keys; None for large bodies."""


SCHEMA = pa.schema(
    [
        pa.field("section", pa.string()),  # null in the only row of a part without slices
        pa.field("name", pa.string()),
        pa.field("units", pa.string()),
        pa.field("field", pa.string()),
        pa.field("first", pa.int64()),
        pa.field("path", pa.string()),
        pa.field("payload", pa.binary()),
        pa.field("parent", pa.binary()),
        pa.field("parent_index", pa.int64()),
        pa.field("count", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("accepted", pa.binary(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("last", pa.bool_(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("format", pa.string()),
        pa.field("canonical", pa.string()),
    ]
)
"""A part between the buffer and the processor: a row for each slice, at least one."""

_OF_SLICE = Slice.__struct_fields__
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Accepted).decode


def pack(part: Part) -> pa.RecordBatch:
    """Return the part as a batch."""
    of_part = {
        "accepted": _encode(part.accepted),
        "part": part.number,
        "last": part.last,
        "error": part.error,
        "format": part.format,
        "canonical": part.canonical,
    }
    rows = [{name: getattr(piece, name) for name in _OF_SLICE} | of_part for piece in part.slices] or [of_part]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def unpack(batch: pa.RecordBatch) -> Part:
    """Return the part of a batch; raises msgspec.DecodeError."""
    rows = batch.select(SCHEMA.names).to_pylist()
    first = rows[0]
    return Part(
        accepted=_decode(first["accepted"]),
        number=first["part"],
        last=first["last"],
        slices=[Slice(**{name: row[name] for name in _OF_SLICE}) for row in rows if row["section"] is not None],
        error=first["error"],
        format=first["format"],
        canonical=first["canonical"],
    )


class Unreadable(msgspec.Struct, frozen=True):
    """An element that is not JSON though all around it is: it holds NaN, or half of a surrogate pair."""

    text: str
    reason: str


_elements = msgspec.json.Decoder().decode


def elements(payload: bytes) -> list[Any]:
    """Return the elements of a JSON list, those that cannot be read as Unreadable; raises ValueError if it is none.

    Of a key that is there twice in one object, the last counts.
    """
    try:
        if any(small.search(payload) for small in _MAY_VANISH):
            raise ValueError("a number may be too small")
        found = _elements(payload)
    except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError):
        try:
            found = [_readable(element) for element in json.loads(payload, parse_int=_integer, parse_float=_fraction)]
        except (RecursionError, TypeError) as error:
            raise ValueError(f"expected a JSON list: {error}") from None
    if not isinstance(found, list):
        raise ValueError(f"expected a JSON list, got {type(found).__name__}")
    return found


def _integer(digits: str) -> float:
    """Return the number; one of more digits than Python reads is infinite, and so at fault."""
    try:
        return int(digits)
    except ValueError:
        return math.inf


_MAY_VANISH = (re.compile(rb"e-\d{3}"), re.compile(rb"E-\d{3}"), re.compile(rb"\.000000000000000000000000000000"))


class _Vanishing(str):
    """A number that would become 0, as it was received."""


def vanishes(digits: str) -> bool:
    """Tell whether a number would become 0, though it is none: it is nearer to 0 than a float can be."""
    return float(digits) == 0 and any(digit in "123456789" for digit in digits.lower().partition("e")[0])


def _fraction(digits: str) -> float | _Vanishing:
    return _Vanishing(digits) if vanishes(digits) else float(digits)


def _readable(element: Any) -> Any:
    reason = _fault(element)
    return element if reason is None else Unreadable(json.dumps(element), reason)


def _fault(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((fault for key, held in value.items() if (fault := _fault(key) or _fault(held))), None)
    if isinstance(value, list):
        return next((fault for held in value if (fault := _fault(held))), None)
    if isinstance(value, _Vanishing):
        return f"expected numbers that a computer can hold, got {value[:80]}, which would become 0"
    if isinstance(value, float) and not math.isfinite(value):
        return f"expected numbers that JSON knows, got {value!r}"
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"expected text, got half of a surrogate pair in {value[:80]!a}"
    return None
