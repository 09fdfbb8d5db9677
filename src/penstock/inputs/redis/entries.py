"""Entries of streams, read by a consumer group."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from ...clients.arrivals import chunks
from ...metadata import Origin, payloads
from .fetching import Fetched, Receipt

if TYPE_CHECKING:
    from . import Streams

BLOCK_TIMEOUT = 1000
"""Milliseconds that the server waits for entries before it says that there are none."""
IDLE_INTERVAL = 0.05
"""Seconds between two looks, where the server cannot wait."""
_CHUNK = 8192
_Entry: TypeAlias = tuple[str, bytes, Sequence[bytes]]
"""The stream, the id, and names and values of the fields by turns."""
_MILLISECOND = 1_000_000


class StreamSource:
    """Reads what this consumer read before and did not ack, what others abandoned, and what is new."""

    def __init__(self, client: Any, options: Streams, consumer: str, rows: int, *, together: bool) -> None:
        """``together`` tells whether one command may name all streams; in a cluster they may be anywhere."""
        for command in ("XREADGROUP", "XAUTOCLAIM"):  # the client makes mappings of all fields, of which one is read
            client.set_response_callback(command, _get_answer)
        self._client, self._options, self._consumer, self._rows = client, options, consumer, rows
        self._together = together
        self._held: set[Receipt] = set()
        self._history: deque[str] = deque(options.streams)
        """Streams of which this consumer may have read entries before."""
        self._after = b"0"
        self._claim_at = 0.0
        self._cursor = dict.fromkeys(options.streams, b"0-0")

    async def begin(self, held: Sequence[Receipt], *, is_first: bool) -> None:
        """Make the groups."""
        from redis.exceptions import ResponseError

        self._held = set(held)
        start = "0" if self._options.start == "all" else "$"
        for stream in self._options.streams:
            try:
                await self._client.xgroup_create(stream, self._options.group, start, mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def fetch(self) -> Fetched:
        """Wait for entries."""
        while True:
            entries = await self._before() or await self._abandoned() or await self._new()
            if entries:
                self._held.update((stream, entry) for stream, entry, _ in entries)
                return self._fetched(entries)

    async def _before(self) -> list[_Entry]:
        """The next entries that were read before this connection, and not acked."""
        while self._history:
            stream = self._history[0]
            answer = await self._command([stream], [self._after])
            found = list(_entries(answer))
            if not found:
                self._history.popleft()
                self._after = b"0"
                continue
            self._after = found[-1][1]
            if entries := await self._not_held(found):
                return entries
        return []

    async def _abandoned(self) -> list[_Entry]:
        """Entries that another consumer has read and not acked for long."""
        if monotonic() < self._claim_at:
            return []
        found: list[_Entry] = []
        is_over = True
        for stream in self._options.streams:
            idle = int(self._options.claim_idle * 1000)
            words = (stream, self._options.group, self._consumer, idle, self._cursor[stream], "COUNT", self._rows)
            cursor, entries, *_ = await self._client.execute_command("XAUTOCLAIM", *words)
            self._cursor[stream] = cursor
            is_over = is_over and cursor == b"0-0"
            found += await self._not_held([(stream, *entry) for entry in entries if entry])
        if is_over:
            self._claim_at = monotonic() + self._options.claim_idle / 2
        return found

    async def _new(self) -> list[_Entry]:
        if self._together:
            streams = list(self._options.streams)
            return list(_entries(await self._command(streams, [b">"] * len(streams), block=True)))
        for stream in self._options.streams:
            if entries := list(_entries(await self._command([stream], [b">"]))):
                return entries
        await asyncio.sleep(IDLE_INTERVAL)
        return []

    async def _command(self, streams: Sequence[str], after: Sequence[bytes], *, block: bool = False) -> Any:
        words: list[Any] = ["GROUP", self._options.group, self._consumer, "COUNT", self._rows]
        words += ["BLOCK", BLOCK_TIMEOUT] if block else []
        return await self._client.execute_command("XREADGROUP", *words, "STREAMS", *streams, *after)

    async def _not_held(self, entries: Sequence[_Entry]) -> list[_Entry]:
        """Those that are not on their way already; what was deleted from its stream meanwhile is acked."""
        deleted = [(stream, entry) for stream, entry, fields in entries if not fields]
        if deleted:
            await self.ack(deleted)
        return [one for one in entries if one[2] and (one[0], one[1]) not in self._held]

    def _fetched(self, entries: Sequence[_Entry]) -> Fetched:
        name = self._options.field
        if name is None:
            encode = msgspec.json.Encoder().encode
            values = [
                encode({k.decode(errors="replace"): v.decode(errors="replace") for k, v in _pairs(fields)})
                for _, _, fields in entries
            ]
        else:
            wanted = name.encode()
            values = [
                fields[1] if len(fields) == 2 and fields[0] == wanted else dict(_pairs(fields)).get(wanted, b"")
                for _, _, fields in entries
            ]
        times = np.array([int(entry.partition(b"-")[0]) for _, entry, _ in entries], np.int64) * _MILLISECOND
        origin = Origin("redis", ext=_Ext(entries), timestamp=pa.array(times, pa.timestamp("ns")))
        return Fetched(payloads(values), origin, [(stream, entry) for stream, entry, _ in entries])

    async def ack(self, receipts: Sequence[Receipt]) -> None:
        """Tell the group that entries are done with."""
        for stream, entries in _by_stream(receipts).items():
            for some in chunks(entries, _CHUNK):
                await self._client.execute_command("XACK", stream, self._options.group, *some)
        self._held.difference_update(receipts)

    async def renew(self, receipts: Sequence[Receipt]) -> None:
        """Claim entries once more, so that nobody takes them for abandoned."""
        for stream, entries in _by_stream(receipts).items():
            for some in chunks(entries, _CHUNK):
                words = (stream, self._options.group, self._consumer, 0, *some, "JUSTID")
                await self._client.execute_command("XCLAIM", *words)

    def renew_interval(self) -> float:
        """Return a third of the time after which others claim them."""
        return self._options.claim_idle / 3


class _Ext(Sequence[Mapping[str, str]]):
    """Where entries came from, made for whoever reads it."""

    def __init__(self, entries: Sequence[_Entry]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: Any) -> Any:
        stream, entry, _ = self._entries[index]
        return {"stream": stream, "id": entry.decode()}


def _get_answer(answer: Any, **_: Any) -> Any:
    """Return an answer as it came."""
    return answer


def _pairs(fields: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(fields[::2], fields[1::2], strict=True)


def _entries(answer: Any) -> Iterator[_Entry]:
    """Each entry of an answer to XREADGROUP, with its stream."""
    pairs = answer.items() if isinstance(answer, Mapping) else answer or ()
    for stream, entries in pairs:
        key = stream.decode() if isinstance(stream, bytes) else stream
        for entry, fields in entries:
            yield key, entry, fields


def _by_stream(receipts: Sequence[Receipt]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for stream, entry in receipts:
        found.setdefault(stream, []).append(entry)
    return found
