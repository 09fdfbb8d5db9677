"""Find the values that spread over several lines among values that are one to a line."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from ... import framing
from ...surrogates import mask_unpaired

_BLANK = ord(" ")
_CLOSING = np.zeros(256, np.uint8)
_CLOSING[ord("{")], _CLOSING[ord("[")] = b"}]"
_MAY_OPEN = _CLOSING > 0
_MAY_OPEN[list(b" \t")] = True
_OPENING = frozenset(b"{[")
_decode = msgspec.json.Decoder(msgspec.Raw).decode
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")


class Joined(NamedTuple):
    """Lines, of which those of one value are one payload."""

    payloads: pa.BinaryArray
    taken: int
    """How many bytes they took: what stands behind may go on in lines that are still to come."""
    is_last_spread: bool
    """Whether the last payload was more than one line."""


def join_spread(lines: pa.BinaryArray, final: bool) -> Joined:
    """Return the lines, those of one value joined; ``final`` says that none follow.

    Only what is JSON when it is joined is joined: behind a line that was torn the next ones stay what they are.
    """
    starts = framing.offsets(lines)
    candidates = _candidates(lines) if len(lines) else ()
    if not len(candidates):
        return Joined(lines, int(starts[-1]), False)
    data = framing.contents(lines).to_pybytes()
    view = memoryview(mask_unpaired(data))
    kept, settled, count = np.ones(len(starts), bool), 0, len(lines)
    for first in candidates:
        if first < settled:
            continue
        last = _last_line(view, starts, int(first))
        if last is None and not final:
            count = int(first)
            break
        if last is not None and last > first:
            kept[first + 1 : last + 1] = False
            settled = last + 1
    taken = int(starts[count])
    text = np.frombuffer(data, np.uint8, taken).copy()
    text[starts[:count][~kept[:count]] - 1] = _BLANK
    ends = np.append(starts[:count][kept[:count]], taken).astype(np.int32)
    payloads = pa.BinaryArray.from_buffers(pa.binary(), len(ends) - 1, [None, pa.py_buffer(ends), pa.py_buffer(text)])
    return Joined(payloads, taken, bool(count) and not kept[count - 1])


def _candidates(lines: pa.BinaryArray) -> np.ndarray:
    """Which lines may begin a value that goes on in the next: between two values no line break needs a look.

    Within a value nothing that opens follows something that closes, so of a value over several lines one either
    does not begin or does not end as a value does.
    """
    first, last = framing.first_and_last_bytes(lines)
    closing = _CLOSING[first]
    whole = (last == closing) & (closing > 0)
    follows = np.append(closing[1:] > 0, _is_value(lines[-1].as_py()))
    doubtful = ~(whole & follows)
    return np.flatnonzero(doubtful & _MAY_OPEN[first]) if doubtful.any() else np.zeros(0, np.intp)


def _last_line(view: memoryview, starts: np.ndarray, line: int) -> int | None:
    """Return the line in which the values end that begin in this one: this one itself, unless they are JSON.

    None means that they are JSON so far, and that their end is still to come.
    """
    begin = int(starts[line])
    if bytes(view[begin : starts[line + 1]]).lstrip()[:1] not in (b"{", b"["):
        return line
    while True:
        try:
            _decode(view[begin:])
            return len(starts) - 2
        except msgspec.DecodeError as error:
            if "truncated" in str(error):
                return None
            found = _TRAILING.search(str(error))
            if found is None:
                return line
        more = begin + int(found[1]) - 1
        end = int(np.searchsorted(starts, more, "right")) - 1
        if not bytes(view[int(starts[end]) : more]).strip():
            return _line_before(view, starts, more)
        if view[more] not in _OPENING:
            return line
        begin = more


def _is_value(line: bytes) -> bool:
    try:
        _decode(mask_unpaired(line))
    except msgspec.DecodeError:
        return False
    return True


def _line_before(view: memoryview, starts: np.ndarray, more: int) -> int:
    while view[more - 1] in b" \t\r\n":
        more -= 1
    return int(np.searchsorted(starts, more - 1, "right")) - 1
