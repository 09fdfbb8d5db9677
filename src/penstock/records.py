"""Where one record of CSV ends and the next begins, in the dialect of the parser that reads the records.

A quote opens a field only at its start; anywhere else it is a character like others. Within a field in quotes a doubled
quote stands for one, and delimiters and line breaks are text. A record ends with ``\\n``, ``\\r\\n`` or ``\\r``.
"""

from __future__ import annotations

import csv
import io
import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .errors import PermanentError

MAX_QUOTED_SIZE = 1 << 20
"""How far apart the quotes around a field may be; a quote that is not closed within this costs its line only."""
DELIMITERS = (";", "\t")
"""What separates the fields where the header holds no comma, and nobody said what does."""
_NEWLINE, _RETURN = 0x0A, 0x0D
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_SEPARATOR = re.compile(rb"""sep=([^\r\n"])[ ]*(?:\r\n?|\n)""", re.IGNORECASE)


class Ends(NamedTuple):
    """Where the records of some data end."""

    ends: np.ndarray
    """Where each complete record ends, behind its line end."""
    unclosed: bool
    """Whether a quote in one of them is never closed."""
    is_open: bool
    """Whether more data might still belong to the last of them."""


class Head(NamedTuple):
    """How a document begins."""

    record: bytes
    """The first record, without its line end."""
    size: int
    """How many bytes there are up to the second record."""
    delimiter: str


def find_records(data: bytes, delimiter: str, quote: str = '"', *, final: bool) -> Ends:
    """Return the records at the start of ``data``; ``final`` says that nothing follows, so that the rest is one too.

    How a text is cut into data makes no difference to where its records end.
    """
    text = np.frombuffer(data, np.uint8)
    ends = _line_ends(text, data, final)
    quotes = np.flatnonzero(text == ord(quote))
    size, unclosed = len(data), False
    if len(quotes) and not _alternate(text, quotes, delimiter, final):
        quotes, size, unclosed = _spans(data, delimiter, quote, final)
    if len(quotes):
        ends = ends[np.searchsorted(quotes, ends - 1) % 2 == 0]
    ends = ends[ends <= size]
    last = int(ends[-1]) if len(ends) else 0
    if final and last < len(data):
        return Ends(np.append(ends, len(data)), unclosed, True)
    before = int(ends[-2]) if len(ends) > 1 else 0
    is_open = unclosed and final and find_records(data[before:last], delimiter, quote, final=False).ends.size == 0
    return Ends(ends, unclosed, is_open)


def find_head(data: bytes, delimiter: str | None, quote: str = '"', *, final: bool) -> Head | None:
    """Return how a document begins, None while its first record is unfinished.

    Without a ``delimiter`` it is the one that a line ``sep=;`` tells, else the comma, or what the first record holds
    in its stead.
    """
    begin = len(data) - len(data.lstrip(b"\r\n"))
    told = _SEPARATOR.match(data, begin) if delimiter is None else None
    begin = told.end() if told is not None else begin
    given = told[1].decode("latin-1") if told is not None else delimiter
    ends = find_records(data[begin:], given or ",", quote, final=final).ends
    if not len(ends):
        return Head(b"", begin, given or ",") if final else None
    record = data[begin : begin + int(ends[0])].rstrip(b"\r\n")
    return Head(record, begin + int(ends[0]), given or _likely_delimiter(record))


def column_names(header: bytes, delimiter: str, quote: str = '"') -> list[str]:
    """Return the names of the columns; one without a name is called by its number, one named as another is numbered.

    Raises PermanentError for a header that is not text in UTF-8, or whose quotes are not closed.
    """
    if find_records(header, delimiter, quote, final=True).unclosed:
        raise PermanentError("the header cannot be read: a quote is never closed")
    if _CONTROL.search(header):
        raise PermanentError("the header cannot be read: it holds control characters, as binary files and UTF-16 do")
    try:
        text = io.StringIO(header.decode(), newline="")
        record = next(csv.reader(text, delimiter=delimiter, quotechar=quote), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise PermanentError(f"the header cannot be read: {error}") from error
    names: dict[str, None] = {}
    numbers: dict[str, int] = {}
    for number, name in enumerate(record, 1):
        candidate = name = name.strip() or f"column_{number}"
        while candidate in names:
            numbers[name] = numbers.get(name, 1) + 1
            candidate = f"{name}_{numbers[name]}"
        names[candidate] = None
    return list(names)


def _likely_delimiter(record: bytes) -> str:
    found = {delimiter: record.count(delimiter.encode()) for delimiter in (",", *DELIMITERS)}
    return "," if found[","] or not any(found.values()) else max(found, key=lambda delimiter: found[delimiter])


def _line_ends(text: np.ndarray, data: bytes, final: bool) -> np.ndarray:
    ends = np.flatnonzero(text == _NEWLINE) + 1
    returns = data.count(b"\r")
    if not returns or returns == data.count(b"\r\n"):
        return ends
    lone = np.flatnonzero(text == _RETURN)
    follow = np.append(text, 0 if final else _NEWLINE)[lone + 1]  # one at the end may be the first half of \r\n
    return np.sort(np.concatenate((ends, lone[follow != _NEWLINE] + 1)))


def _alternate(text: np.ndarray, quotes: np.ndarray, delimiter: str, final: bool) -> bool:
    """Whether each second quote closes what the one before it has opened, as in nearly all files."""
    opening, closing = quotes[::2], quotes[1::2]
    before = np.where(opening > 0, text[opening - 1], _NEWLINE)
    doubled = np.zeros(len(opening), bool)
    doubled[1:] = opening[1:] == closing[: len(opening) - 1] + 1
    starts = (before == ord(delimiter)) | (before == _NEWLINE) | (before == _RETURN)
    if not (starts | doubled).all():
        return False
    fields = opening[~doubled]
    limits = np.append(fields[1:], len(text) if len(quotes) % 2 else closing[-1])
    if len(quotes) % 2 and final:
        return False
    return bool((limits - fields <= MAX_QUOTED_SIZE).all())


def _spans(data: bytes, delimiter: str, quote: str, final: bool) -> tuple[np.ndarray, int, bool]:
    """Return where fields in quotes begin and end, how much of the data can be told, and if a quote is never closed."""
    mark, before_field = quote.encode(), b"\r\n" + delimiter.encode()
    closes = _closing(quote)
    found: list[int] = []
    at, unclosed = 0, False
    while (begin := data.find(mark, at)) >= 0:
        if begin and data[begin - 1] not in before_field:
            at = begin + 1
            continue
        end = closes.match(data, begin + 1)
        if end is not None and end.end() - 1 - begin <= MAX_QUOTED_SIZE:
            found += (begin, end.end() - 1)
            at = end.end()
            continue
        line = _LINE_END.search(data, begin)
        waits = end is None and len(data) - begin <= MAX_QUOTED_SIZE + 1
        if not final and (waits or line is None or line.end() == len(data)):
            return np.array(found, np.int64), begin, unclosed
        unclosed = True
        if line is None:
            break
        at = line.end()
    return np.array(found, np.int64), len(data), unclosed


@lru_cache(16)
def _closing(quote: str) -> re.Pattern[bytes]:
    """What is behind the quote that opens a field, up to the one that closes it."""
    mark = re.escape(quote.encode())
    within = b"[^" + mark + b"]*+"
    return re.compile(within + b"(?:" + mark + mark + within + b")*+" + mark)
