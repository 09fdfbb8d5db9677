"""Cut a text of JSON values apart that are not one to a line: an array, or objects spread over several lines."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa

_QUOTE, _BACKSLASH, _COMMA, _NEWLINE = b'"\\,\n'
_OPENING = np.zeros(256, np.int8)
_OPENING[list(b"{[")] = 1
_OPENING[list(b"}]")] = -1
_STRUCTURE = _OPENING != 0
_STRUCTURE[_COMMA] = True
_BLANK = np.zeros(256, bool)
_BLANK[list(b" \t\r\n")] = True
_BETWEEN = _BLANK.copy()
_BETWEEN[_COMMA] = True
_RAW = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True)
class Values:
    """What was cut from the start of a text."""

    payloads: pa.BinaryArray
    """One value each, on one line each."""
    taken: int
    """How many bytes they took."""
    closed: bool
    """Whether the array they are in has ended."""


def cut(data: bytes, within_array: bool) -> Values:
    """Return the complete values at the start of ``data``, which begins between two values.

    Whatever else stands between the commas of an array is a payload too, for its decoder to refuse.
    """
    text = np.frombuffer(data, np.uint8)
    places, kinds, depths = _structure(text)
    closing = np.flatnonzero(depths < 0)
    closed = bool(len(closing))
    end = int(places[closing[0]]) if closed else len(text)
    if closed:
        places, kinds, depths = places[: closing[0]], kinds[: closing[0]], depths[: closing[0]]
    starts = places[(_OPENING[kinds] == 1) & (depths == 1)]
    stops = places[(_OPENING[kinds] == -1) & (depths == 0)] + 1
    starts, unfinished = starts[: len(stops)], starts[len(stops) :]
    checked = end if closed else int(unfinished[0]) if len(unfinished) else len(text)
    outside = _outside(starts, stops, checked)
    if (within_array or closed) and not _BETWEEN[text[:checked][outside]].all():
        commas = places[(kinds == _COMMA) & (depths == 0)]
        return _between_commas(text, commas, end, closed)
    if not (_BETWEEN if within_array else _BLANK)[text[:checked][outside]].all():
        return Values(_payloads(text[:0], np.zeros(1, np.int32)), 0, False)
    taken = end + 1 if closed else int(stops[-1]) if len(stops) else 0
    return Values(_objects(text, starts, stops), taken, closed)


def _structure(text: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where brackets and commas stand outside of strings, which they are, and how deep it is after each."""
    quotes = np.flatnonzero(text == _QUOTE)
    escaped = quotes[(quotes > 0) & (text[quotes - 1] == _BACKSLASH)]
    if len(escaped):
        slashes = np.flatnonzero(text == _BACKSLASH)
        run_starts = slashes[np.concatenate(([True], np.diff(slashes) != 1))]
        lengths = escaped - run_starts[np.searchsorted(run_starts, escaped) - 1]
        quotes = np.setdiff1d(quotes, escaped[lengths % 2 == 1], assume_unique=True)
    places = np.flatnonzero(_STRUCTURE[text])
    places = places[np.searchsorted(quotes, places) % 2 == 0]
    kinds = text[places]
    return places, kinds, np.cumsum(_OPENING[kinds], dtype=np.int64)


def _outside(starts: np.ndarray, stops: np.ndarray, size: int) -> np.ndarray:
    """Which of the first ``size`` bytes are within no value."""
    change = np.zeros(size + 1, np.int8)
    change[starts] += 1
    change[stops[stops <= size]] -= 1
    outside: np.ndarray = np.cumsum(change[:size], dtype=np.int8) == 0
    return outside


def _objects(text: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> pa.BinaryArray:
    if not len(stops):
        return _payloads(text[:0], np.zeros(1, np.int32))
    line = np.append(text[: stops[-1]], np.uint8(_NEWLINE))
    line[_BLANK[line] & (line != ord("\t"))] = ord(" ")  # a line break within a value may only stand for a blank
    if not (starts[1:] == stops[:-1]).any():  # there is room for a line end behind each
        line[stops] = _NEWLINE
        stops = stops + 1
    kept = ~_outside(starts, stops, len(line))
    ends = np.zeros(len(starts) + 1, np.int32)
    np.cumsum(stops - starts, out=ends[1:])
    return _payloads(line[kept], ends)


def _between_commas(text: np.ndarray, commas: np.ndarray, end: int, closed: bool) -> Values:
    bounds = np.append(commas, end) if closed else commas
    starts = np.concatenate(([0], bounds + 1)).astype(np.int32) if len(bounds) else np.zeros(1, np.int32)
    taken = int(starts[-1])
    line = text[:taken].copy()
    line[_BLANK[line]] = ord(" ")
    if len(bounds):
        line[bounds] = _NEWLINE
    return Values(_payloads(line, starts), taken, closed)


def _payloads(line: np.ndarray, ends: np.ndarray) -> pa.BinaryArray:
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(line))]
    return pa.BinaryArray.from_buffers(pa.binary(), len(ends) - 1, buffers)


def are_lines(head: bytes, final: bool) -> bool | None:
    """Tell whether a text holds one value to a line, judging by its ``head``; None while that cannot be told.

    The head is to begin with a value, not with a blank. A first line that is not a value does not make it otherwise,
    unless an object spreads over that and more lines.
    """
    lines = head.split(b"\n")
    complete = lines if final else lines[:-1]
    if any(_is_value(line) for line in complete[:1]) or any(
        line.startswith(b"{") and _is_value(line) for line in complete[1:1000]
    ):
        return True
    first = cut(head, within_array=False).payloads
    if len(first) and b"\n" in head[: len(first[0].as_py().rstrip())]:
        return not _is_value(first[0].as_py())
    return True if final else None


def are_lists(head: bytes) -> bool:
    """Tell whether a text that begins with a list holds one value to a line, and not one list over all of it."""
    first, _, rest = head.partition(b"\n")
    return bool(rest.strip()) and _is_value(first)


def _is_value(line: bytes) -> bool:
    """Whether a line is a value, or several."""
    try:
        return bool(_RAW.decode_lines(line))
    except msgspec.DecodeError:
        return False
    except RecursionError:
        return True  # one that is nested too deep, which its decoder refuses
