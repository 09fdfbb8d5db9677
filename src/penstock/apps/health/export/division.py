"""Divide an accepted body into parts: looked at whole first, then read again and handed out bit by bit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import BinaryIO

import msgspec
import numpy as np

from ....errors import PermanentError
from ..acceptance import Accepted
from .bodies import File, Reader, decoded, files
from .canonical import hash_content
from .cutting import Cutter, too_large
from .dates import zone_of
from .plans import MAX_ELEMENTS, Boundaries, Cut, Facts, Plan
from .records import encode_sorted
from .slices import Part, Slice
from .structure import MAX_VALUE_BYTES, Malformed, Structure

PART_BYTES = 2_000_000
"""How many bytes are in a part at most, unless one slice has more."""
_BLOCK = 1 << 18
_MAX_EXCERPT_BYTES = 1000
_MAX_HEADING_BYTES = 1 << 16
_SLICE_COST = 4
"""With how many elements it compares to read a slice at all."""
_MAX_NAME_LENGTH = 1000
"""Names, units and paths of more characters are cut off: every row of a list says them."""

logger = logging.getLogger(__name__)


def divide(accepted: Accepted, open: Callable[[], BinaryIO], limit: int) -> Iterator[Part]:
    """Yield the parts of a body, the same for the same bytes; blocks.

    A body that cannot be read is one part that says why: nothing of it is handed out. ``limit`` is how many bytes it
    may have once it is decompressed. Raises TransientError if it cannot be read now.
    """
    with ExitStack() as stack:
        plans: list[tuple[File, Plan]] = []
        try:
            file = stack.enter_context(open())

            def body() -> Reader:
                file.seek(0)
                return decoded(file, accepted.content_encoding, limit)

            for one in _files(accepted, body, limit, stack):
                if (said := _remark(one)) is None:
                    plans.append((one, _plan(one, accepted.form, len(plans))))
                else:
                    accepted = _with_remark(accepted, one.field, said)
            canonical = hash_content(body(), accepted)
        except (Malformed, PermanentError) as error:
            yield Part(accepted=accepted, number=0, last=True, error=str(error), format=_format(accepted, plans))
            return
        groups = _groups(slice for one, plan in plans for slice in _slices(one.open(), plan))
        yield from _numbered(accepted, groups, _format(accepted, plans), canonical)


def _numbered(
    accepted: Accepted, groups: Iterator[list[Slice]], format: str | None, canonical: str | None
) -> Iterator[Part]:
    """Yield the parts; the last one is known as such."""
    number = 0
    waiting, error = _next(groups, accepted)
    while True:
        following, error = (None, error) if waiting is None else _next(groups, accepted)
        yield Part(
            accepted=accepted,
            number=number,
            last=following is None,
            slices=waiting or [],
            error=error,
            format=format,
            canonical=canonical,
        )
        if following is None:
            return
        number, waiting = number + 1, following


def _next(groups: Iterator[list[Slice]], accepted: Accepted) -> tuple[list[Slice] | None, str | None]:
    """Return what comes next, or why it cannot be read any more: it was removed, or the disk is bad."""
    try:
        return next(groups, None), None
    except (Malformed, PermanentError) as changed:
        error = f"the body changed while it was read: {changed}"
        logger.error("ingest %s: %s", accepted.id, error)
        return None, error


def _format(accepted: Accepted, plans: list[tuple[File, Plan]]) -> str | None:
    if accepted.form.startswith("domain:"):
        return "domain"
    return next((plan.format for _, plan in plans if plan.format is not None), None)


def _files(accepted: Accepted, body: Callable[[], Reader], limit: int, stack: ExitStack) -> list[File]:
    """The files of a body: itself, unless it is multipart."""
    if accepted.form != "multipart":
        return [File("", body)]
    boundary = _boundary(accepted)
    if not boundary:
        raise Malformed("expected a boundary in Content-Type multipart/form-data, got none")
    found = files(body(), boundary, limit)
    for _, spool in found:
        stack.enter_context(spool)
    return [file for file, _ in found]


def _remark(file: File) -> str | None:
    """Return what a field says that holds no file, in one short line; None for all else."""
    if file.is_file:
        return None
    source, text = file.open(), b""
    while len(text) <= _MAX_NAME_LENGTH and (block := source.read(_MAX_NAME_LENGTH)):
        text += block
    text = text.strip()
    is_one_line = len(text) <= _MAX_NAME_LENGTH and b"\n" not in text and text[:1] not in (b"{", b"[")
    return text.decode("utf-8", "replace") if is_one_line else None


def _with_remark(accepted: Accepted, field: str, said: str) -> Accepted:
    """Take the time zone of times without an offset from a field ``timezone``; other remarks are in the body only."""
    if field.lower() != "timezone" or zone_of(said) is None:
        return accepted
    return msgspec.structs.replace(accepted, headers=accepted.headers | {"timezone": said, "timezone-from": "request"})


def _boundary(accepted: Accepted) -> str:
    if accepted.headers.get("boundary"):
        return accepted.headers["boundary"]
    for part in accepted.content_type.split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "boundary":
            return value.strip().strip('"')
    return ""


def _plan(file: File, form: str, number: int) -> Plan:
    """Look at all of a file: where its slices are, and whether all of it can be read."""
    source = file.open()
    prefix = f"{file.name or number}:" if form == "multipart" else ""
    if form == "csv" or (form == "multipart" and not _is_json(file)):
        return _lines(source, file, prefix)
    return Cutter(Structure(source), Plan(), prefix, form.startswith("domain:")).cut()


def _is_json(file: File) -> bool:
    return file.open().read(64).lstrip()[:1] in (b"{", b"[")


def _lines(source: Reader, file: File, prefix: str) -> Plan:
    """Plan the rows of a CSV text, each with the line of the header; a line break within quotes ends no row."""
    plan = Plan(format="csv")
    bounds: Boundaries | None = None
    facts, inside, read, header = Facts(), 0, 0, b""
    decoder = _Utf8()
    while True:
        block = source.read(_BLOCK)
        decoder.check(block, not block)
        data = np.frombuffer(block, np.uint8)
        parity = np.cumsum((data == 34).view(np.uint8), dtype=np.uint8) + np.uint8(inside)
        inside = int(parity[-1]) & 1 if len(parity) else inside
        ends = np.flatnonzero((data == 10) & (parity & 1 == 0)) + read
        if bounds is None:
            header += block[: int(ends[0]) - read] if len(ends) else block
            if len(header) > _MAX_HEADING_BYTES:
                raise Malformed(f"expected a first line of names, got one of more than {_MAX_HEADING_BYTES} bytes")
            if len(ends) or not block:
                facts.values = {"header": header.decode().rstrip("\r"), "field": file.field}
                bounds = Boundaries(read + len(header) + 1 if not len(ends) else int(ends[0]) + 1)
                ends = ends[1:]
        read += len(block)
        if bounds is not None:
            bounds.found(ends)
            if not block and bounds.start < read and (not bounds.pending or bounds.last < read - 1):
                bounds.found(np.array([read], np.int64))
            for start, end, first, count in bounds.groups(read, not block):
                reason = too_large(end - start) if count == 1 and end - start > MAX_VALUE_BYTES else None
                plan.add(Cut("csv", f"{prefix}row", start, end, first, count, file.name, about=facts, reason=reason))
        if not block:
            if not read:
                raise Malformed("the body ends at byte 0; expected a first line of names")
            if inside:
                raise Malformed(f'the body ends at byte {read} within quotes; expected "')
            return plan


class _Utf8:
    """Checks a text that comes in blocks."""

    def __init__(self) -> None:
        self._rest, self._read = b"", 0

    def check(self, block: bytes, final: bool) -> None:
        text = self._rest + block
        try:
            text.decode()
            self._rest = b""
        except UnicodeDecodeError as error:
            if final or len(text) - error.start > 3 or error.reason != "unexpected end of data":
                at = self._read - len(self._rest) + error.start
                raise Malformed(f"at byte {at}: expected UTF-8, got byte {text[error.start]:#04x}") from None
            self._rest = text[error.start :]
        self._read += len(block)


def _slices(source: Reader, plan: Plan) -> Iterator[Slice]:
    """Read a file from its beginning to its end, and yield each slice as soon as its last byte is read."""
    segments = sorted(
        (start, end, index, final) for index, cut in enumerate(plan.cuts) for start, end, final in _segments(cut)
    )
    held: dict[int, list[bytes]] = {}
    window = _Window(source)
    for start, end, index, final in segments:
        held.setdefault(index, []).append(window.take(start, end))
        if final:
            yield _slice(plan.cuts[index], held.pop(index))


def _segments(cut: Cut) -> Iterator[tuple[int, int, bool]]:
    """Where the bytes of a cut are: between its holes."""
    if cut.reason is not None and cut.end - cut.start > MAX_VALUE_BYTES:
        yield cut.start, cut.start + _MAX_EXCERPT_BYTES, True
        return
    start = cut.start
    for _, begin, end in cut.holes:
        yield start, begin, False
        start = end
    yield start, cut.end, True


class _Window:
    """Takes ranges of what is read, one behind the other."""

    def __init__(self, source: Reader) -> None:
        self._source, self._held, self._from = source, b"", 0

    def take(self, start: int, end: int) -> bytes:
        pieces = [self._held]
        have = self._from + len(self._held)
        while have < end:
            block = self._source.read(_BLOCK)
            if not block:
                raise Malformed(f"the body ends at byte {have}")
            if have + len(block) <= start:
                pieces, self._from = [], have + len(block)
            else:
                pieces.append(block)
            have += len(block)
        whole = b"".join(pieces)
        found = whole[start - self._from : end - self._from]
        self._held, self._from = whole[end - self._from :], end
        return found


def _slice(cut: Cut, pieces: list[bytes]) -> Slice:
    about = cut.about or Facts()
    name = cut.name if cut.name is not None else about.text("name") or ""
    payload = b"null".join(pieces)
    if cut.section == "csv":
        payload = str(about.values["header"]).encode() + b"\n" + payload.rstrip(b"\r\n") + b"\n"
    elif cut.reason is None or cut.end - cut.start <= MAX_VALUE_BYTES:
        payload = b"[" + payload + b"]"
    if cut.holes:
        payload = _without(payload, {key for key, _, _ in cut.holes})
    units = about.text("units", "unit")
    return Slice(
        section=_short(cut.section),
        name=_short(name),
        units=None if units is None else _short(units),
        field=_short(about.text("field") or "") if cut.section == "csv" else "",
        first=cut.first,
        path=_short(cut.path),
        payload=payload,
        parent=None if cut.parent is None else encode_sorted(cut.parent.values),
        parent_index=cut.parent_index,
        count=cut.count,
        reason=cut.reason,
    )


def _short(text: str) -> str:
    return text if len(text) <= _MAX_NAME_LENGTH else text[: _MAX_NAME_LENGTH - 1] + "…"


def _without(payload: bytes, keys: set[str]) -> bytes:
    """Return the element without what was cut out of it."""
    try:
        [element] = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, UnicodeError, ValueError):  # it holds what is no JSON: its parser says so
        return payload
    return msgspec.json.encode([{key: value for key, value in element.items() if key not in keys}])


def _groups(slices: Iterator[Slice]) -> Iterator[list[Slice]]:
    """Put slices that are small together into one part; a slice costs more than its elements."""
    group: list[Slice] = []
    elements = size = 0
    for slice in slices:
        count = (slice.count or 1) + _SLICE_COST
        if group and (elements + count > MAX_ELEMENTS + _SLICE_COST or size + len(slice.payload) > PART_BYTES):
            yield group
            group, elements, size = [], 0, 0
        group.append(slice)
        elements, size = elements + count, size + len(slice.payload)
    if group:
        yield group
