"""Dead letters in files of JSON lines: read from the end, and settled by a note beside the file.

A file that a stream may be writing is not written by anybody else. Which of its lines were dropped or sent again
stands in the hidden file ``.NAME.settled``: the place of the line and the digest of what is there.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..codecs.json import Json
from ..errors import TransientError
from ..framing import Framing
from ..outputs.file import File
from ..outputs.file.formats import Compression, Format
from .letters import MAX_GROUPS, Address, Cursor, Group, Letter, letter_of

T = TypeVar("T")

MAX_LINE_SIZE = 64 * 1024 * 1024
"""Bytes of a line; a longer one is passed over."""
_BLOCK_SIZE = 1024 * 1024
_PLACE = re.compile(r"\d{1,18}", re.ASCII)


def why_unlisted(output: File) -> str:
    """Return why the lines of a file output cannot be listed; nothing if they can."""
    format, compression, _ = output.resolved()
    is_plain = output.codec is None or (isinstance(output.codec, Json) and not output.codec.pretty)
    if output.is_remote() or format is not Format.JSON or not is_plain or output.framing is not Framing.LINES:
        return "only files of JSON lines on this machine are listed: its rows are where its options say"
    if compression is not Compression.NONE or output.rotate is not None or re.search("[{%]", output.path):
        return "only one file that is neither packed nor rotated is listed: its rows are where its options say"
    return ""


class LetterFile:
    """A file of dead letters."""

    def __init__(self, output: File) -> None:
        self._path = Path(output.path).absolute()
        self._settled = self._path.with_name(f".{self._path.name}.settled")
        self.name = hashlib.sha256(str(self._path).encode()).hexdigest()[:12]

    def has(self, row: str) -> bool:
        """Tell whether ``row`` is written like the place of a line."""
        return _PLACE.fullmatch(row) is not None

    async def page(self, wanted: Mapping[str, str], after: Cursor | None, limit: int) -> list[Letter]:
        """Return at most ``limit`` dead letters, the last written first."""

        def read() -> list[Letter]:
            found = []
            for at, row in self._rows(wanted, int(after.row) if after is not None else None):
                found.append(letter_of(self.name, str(at), row))
                if len(found) == limit:
                    break
            return found

        return await self._run(read)

    async def count(self, wanted: Mapping[str, str]) -> int:
        """Return how many dead letters there are."""
        return await self._run(lambda: sum(1 for _ in self._rows(wanted)))

    async def groups(self) -> list[Group]:
        """Return how many dead letters there are, by stream, stage and reason."""

        def read() -> list[Group]:
            counts: Counter[tuple[str, str, str]] = Counter()
            times: dict[tuple[str, str, str], list[datetime]] = {}
            for _, row in self._rows({}):
                group = (row["stream"] or "", row["stage"] or "", row["reason"] or "")
                counts[group] += 1
                if row["time"] is not None:
                    seen = times.setdefault(group, [row["time"], row["time"]])
                    seen[:] = min(seen[0], row["time"]), max(seen[1], row["time"])
            return [
                Group(stream=group[0], stage=group[1], reason=group[2], count=many, first=first, last=last)
                for group, many in counts.most_common(MAX_GROUPS)
                for first, last in [times.get(group, [None, None])]
            ]

        return await self._run(read)

    async def find(self, address: Address) -> Mapping[str, Any] | None:
        """Return the row at an address, whole; None if it is gone."""

        def read() -> Mapping[str, Any] | None:
            if not self._path.exists() or (address.row, address.digest.hex()) in self._notes():
                return None
            with self._path.open("rb") as file:
                file.seek(int(address.row))
                row = _row(file.readline(MAX_LINE_SIZE))
            return row if row is not None and letter_of(self.name, address.row, row).id == address.written() else None

        return await self._run(read)

    async def drop(self, address: Address) -> bool:
        """Note that a line is settled; return whether it was there."""
        if await self.find(address) is None:
            return False

        def note() -> bool:
            opened = os.open(self._settled, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(opened, f"{address.row} {address.digest.hex()}\n".encode())
                os.fsync(opened)
            finally:
                os.close(opened)
            return True

        return await self._run(note)

    def close(self) -> None:
        """Do nothing: no file is kept open."""

    async def _run(self, action: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(action)
        except OSError as error:
            raise TransientError(f"{self._path.name}: {error.strerror or error}") from error

    def _rows(self, wanted: Mapping[str, str], end: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield what is wanted and not settled, and where it is, the last written first."""
        if not self._path.exists() or not stat.S_ISREG(self._path.stat().st_mode):
            return
        notes = self._notes()
        for at, line in _backwards(self._path, end):
            row = _row(line)
            if row is None or not _is_wanted(row, wanted):
                continue
            address = Address.read(letter_of(self.name, str(at), row).id) if notes else None
            if address is None or (address.row, address.digest.hex()) not in notes:
                yield at, row

    def _notes(self) -> set[tuple[str, str]]:
        try:
            lines = self._settled.read_text("ascii", "replace").splitlines()
        except FileNotFoundError:
            return set()
        return {(row, digest) for row, _, digest in (line.partition(" ") for line in lines)}


def _backwards(path: Path, end: int | None) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file before ``end`` with their places, the last first."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        at = size if end is None else min(end, size)
        rest = b""  # the line that begins before ``at``
        while at > 0:
            start = max(0, at - _BLOCK_SIZE)
            file.seek(start)
            data = file.read(at - start) + rest
            at = start
            cut = data.find(b"\n") + 1 if start else 0
            if start and not cut:
                rest = data if len(data) < MAX_LINE_SIZE else b""
                continue
            rest = data[:cut]
            place, found = start + cut, []
            for line in data[cut:].split(b"\n"):
                found.append((place, line))
                place += len(line) + 1
            yield from reversed(found)


def _row(line: bytes) -> dict[str, Any] | None:
    """Return a dead letter; None for a line that is not one."""
    try:
        found = msgspec.json.decode(line, type=dict[str, Any])
        time = msgspec.convert(found.get("time"), datetime | None)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    if not isinstance(found.get("reason"), str):
        return None
    names = ("stream", "stage", "reason", "payload", "encoding", "metadata")
    texts = {name: found[name] if isinstance(found.get(name), str) else None for name in names}
    return {"time": time.astimezone(UTC) if time is not None and time.tzinfo else time, **texts}


def _is_wanted(row: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    if any(row[name] != value for name, value in wanted.items() if name != "search"):
        return False
    text = wanted.get("search", "").lower()
    return not text or any(text in (row[name] or "").lower() for name in ("reason", "payload"))
