"""Elements of lists: moved to a list of our own, and removed from there once they are durable."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from ...metadata import Origin, payloads
from .fetching import Fetched, Receipt

IDLE_INTERVAL = 0.02
"""Seconds between two looks at lists that are empty."""
MAX_MOVED = 4000
"""Elements moved by one command at most: a script may not pass on more at once."""

_MOVE = """
local moved = redis.call('LRANGE', KEYS[1], 0, ARGV[1] - 1)
if #moved > 0 then
  redis.call('RPUSH', KEYS[2], unpack(moved))
  redis.call('LTRIM', KEYS[1], #moved, -1)
end
return moved
"""
_REMOVE = """
local done = tonumber(redis.call('GET', KEYS[2]) or '0')
local wanted = tonumber(ARGV[1])
if wanted > done then
  redis.call('LTRIM', KEYS[1], wanted - done, -1)
  redis.call('SET', KEYS[2], ARGV[1])
end
return wanted
"""


class _List:
    """A list, ours beside it, and how many elements of ours were read and removed in this run."""

    def __init__(self, key: str, owner: str) -> None:
        base = key if "{" in key and "}" in key else f"{{{key}}}"  # in a cluster they have to be at one place
        self.key, self.ours, self.count = key, f"{base}:{owner}", f"{base}:{owner}:removed"
        self.read = 0


class ListSource:
    """Reads what was moved before and not removed, and then moves more."""

    def __init__(self, client: Any, keys: Sequence[str], owner: str, rows: int) -> None:
        self._client, self._rows = client, rows
        self._lists = [_List(key, owner) for key in keys]
        self._by_key = {each.key: each for each in self._lists}
        self._left: deque[tuple[str, list[bytes]]] = deque()

    async def begin(self, held: Sequence[Receipt], *, is_first: bool) -> None:
        """Find what was moved and is not on its way: all of it in a new run, else what a lost connection left."""
        waiting = Counter(key for key, _ in held)
        for each in self._lists:
            if is_first:
                await self._client.delete(each.count)
            removed = int(await self._client.get(each.count) or 0)
            each.read = removed + waiting[each.key] if not is_first else 0
            left = await self._client.lrange(each.ours, each.read - removed, -1)
            if left:
                self._left.append((each.key, left))

    async def fetch(self) -> Fetched:
        """Wait for elements."""
        while True:
            if self._left:
                key, elements = self._left.popleft()
                if len(elements) > self._rows:
                    self._left.appendleft((key, elements[self._rows :]))
                return self._fetched(key, elements[: self._rows])
            for _ in self._lists:
                each = self._lists.pop(0)
                self._lists.append(each)  # the others have their turn before it
                count = min(self._rows, MAX_MOVED)
                moved = await self._client.eval(_MOVE, 2, each.key, each.ours, count)
                if moved:
                    return self._fetched(each.key, moved)
            await asyncio.sleep(IDLE_INTERVAL)

    def _fetched(self, key: str, elements: list[bytes]) -> Fetched:
        each = self._by_key[key]
        numbers = range(each.read + 1, each.read + len(elements) + 1)
        each.read += len(elements)
        receipts = [(key, b"%d" % number) for number in numbers]
        return Fetched(payloads(elements), Origin("redis", ext={"list": key}), receipts)

    async def ack(self, receipts: Sequence[Receipt]) -> None:
        """Remove elements from our lists; how many were removed is counted, so that none is removed twice."""
        for key, number in dict(receipts).items():
            each = self._by_key[key]
            await self._client.eval(_REMOVE, 2, each.ours, each.count, int(number))

    async def renew(self, receipts: Sequence[Receipt]) -> None:
        """Do nothing: what is ours nobody else takes."""

    def renew_interval(self) -> float:
        """Return a long time."""
        return 3600.0
