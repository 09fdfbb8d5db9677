"""Where the whole rows of a file end, when a crash may have cut the last write."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from ...framing import Framing

Tail: TypeAlias = Callable[[int, int], int]
"""Given an open file and its size, returns where its last whole row ends."""

_BLOCK = 1 << 16
_ZSTD_FRAME = b"\x28\xb5\x2f\xfd"


def lines(opened: int, size: int) -> int:
    """Return the end of the last line that has its newline."""
    end = size
    while end > 0:
        start = max(end - _BLOCK, 0)
        found = os.pread(opened, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def csv(opened: int, size: int) -> int:
    """Return the end of the last line whose quotes are closed: a newline within quotes ends no row."""
    if size == 0:
        return 0
    with mmap.mmap(opened, size, prot=mmap.PROT_READ) as text:
        quotes = sum(text[at : at + (1 << 24)].count(b'"') for at in range(0, size, 1 << 24))
        end = size
        while True:
            newline = text.rfind(b"\n", 0, end)
            if newline < 0:
                return 0
            quotes -= text[newline + 1 : end].count(b'"')
            if quotes % 2 == 0:
                return newline + 1
            end = newline


def length_delimited(opened: int, size: int) -> int:
    """Return the end of the last whole frame."""
    at = 0
    while at + 4 <= size:
        after = at + 4 + int.from_bytes(os.pread(opened, 4, at), "big")
        if after > size:
            break
        at = after
    return at


def gzip(opened: int, size: int) -> int:
    """Return the end of the last whole member."""
    end = at = 0
    member = zlib.decompressobj(31)
    while block := os.pread(opened, 1 << 20, at):
        at += len(block)
        while block:
            try:
                member.decompress(block)
            except zlib.error:
                return end
            if not member.eof:
                break
            block = member.unused_data
            end = at - len(block)
            member = zlib.decompressobj(31)
    return end


def zstd(opened: int, size: int) -> int:
    """Return the end of the last whole frame, found from the lengths of its blocks (RFC 8878)."""
    at = 0
    while (after := _zstd_frame_end(opened, at)) is not None and after <= size:
        at = after
    return at


def _zstd_frame_end(opened: int, at: int) -> int | None:
    head = os.pread(opened, 5, at)
    if len(head) < 5 or head[:4] != _ZSTD_FRAME:
        return None
    flags = head[4]
    single = flags >> 5 & 1
    content_size = (single, 2, 4, 8)[flags >> 6]
    at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + content_size
    last = False
    while not last:
        block = os.pread(opened, 3, at)
        if len(block) < 3:
            return None
        header = int.from_bytes(block, "little")
        last = bool(header & 1)
        at += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
    return at + 4 * (flags >> 2 & 1)


def find(is_csv: bool, compression: str, framing: Framing) -> Tail:
    """Return what finds the end of the whole rows of such files."""
    if compression != "none":
        return {"gzip": gzip, "zstd": zstd}[compression]
    if is_csv:
        return csv
    return length_delimited if framing is Framing.LENGTH_DELIMITED else lines


def is_whole_json(text: bytes) -> bool:
    """Return whether a last line without its newline is a whole object or array: a person may have left it so."""
    if not text.lstrip().startswith((b"{", b"[")):
        return False
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return True
