"""A table beside a stream that is kept open, and remembers for a while what was found."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import AsyncExitStack

import numpy as np
import pyarrow as pa

from ..component import Found, Lookup, Temporary
from ..context import Context
from ..errors import ConnectionLost, PermanentError, TransientError
from ..selection import take
from .transform import describe


class OpenLookup:
    """A temporary table kept open: opened again by the next call once its connection is lost."""

    def __init__(self, temporary: Temporary, context: Context) -> None:
        self._temporary, self._context = temporary, context
        self._stack = AsyncExitStack()
        self._lookup: Lookup | None = None
        self._was_open = False
        self._one_at_a_time = asyncio.Lock()
        self._cache = None if temporary.cache_ttl is None else _Cache(temporary.cache_ttl, temporary.cache_size)

    async def start(self) -> None:
        """Open it, if it is there already; raises what is wrong with the configuration."""
        try:
            await self._open()
        except (ConnectionLost, TransientError) as error:
            self._context.log.warning("%s: not open yet: %s", self._context.name, error)

    async def find(self, keys: pa.StringArray) -> Found:
        """Return the rows of these keys, each of which is there once; raises ConnectionLost or TransientError."""
        async with self._one_at_a_time:
            if self._cache is None:
                return await self._ask(keys)
            now = self._context.clock.monotonic()
            missing = self._cache.missing(keys, now)
            if len(missing):
                self._cache.put(missing, await self._ask(missing), now)
            found = self._cache.find(keys)
            self._cache.shrink()
            return found

    async def _ask(self, keys: pa.StringArray) -> Found:
        try:
            return await (await self._open()).find(keys)
        except ConnectionLost:
            await self.close()
            raise
        except (ConnectionError, TimeoutError) as error:
            await self.close()
            raise ConnectionLost(describe(error)) from error

    async def _open(self) -> Lookup:
        if self._lookup is None:
            try:
                self._lookup = await self._stack.enter_async_context(self._temporary.open(self._context))
            except PermanentError as error:
                if not self._was_open:
                    raise
                raise ConnectionLost(str(error)) from error  # it worked, so somebody changed something; no row did
            self._was_open = True
        return self._lookup

    async def close(self) -> None:
        """Close it if it is open."""
        self._lookup = None
        stack, self._stack = self._stack, AsyncExitStack()
        try:
            await stack.aclose()
        except Exception as error:
            self._context.log.debug("%s: closing a lost table: %s", self._context.name, error)


class _Cache:
    """What was found for each key, until it is too old; the keys that were asked for longest ago go first."""

    def __init__(self, ttl: float, size: int) -> None:
        self._ttl, self._size = ttl, size
        self._known: OrderedDict[str, tuple[float, np.ndarray]] = OrderedDict()
        self._chunks: list[pa.Table] = []
        self._rows = 0

    def missing(self, keys: pa.StringArray, now: float) -> pa.StringArray:
        """Return the keys of which nothing is known any more."""
        return pa.array([key for key in keys.to_pylist() if not self._is_fresh(key, now)], pa.string())

    def _is_fresh(self, key: str, now: float) -> bool:
        known = self._known.get(key)
        return known is not None and known[0] > now

    def put(self, keys: pa.StringArray, found: Found, now: float) -> None:
        """Remember what was found of each key, nothing included."""
        places = found.keys.to_numpy()
        order = np.argsort(places, kind="stable")
        edges = np.searchsorted(places[order], np.arange(len(keys) + 1))
        for at, key in enumerate(keys.to_pylist()):
            self._known[key] = (now + self._ttl, self._rows + order[edges[at] : edges[at + 1]])
            self._known.move_to_end(key)
        self._chunks.append(pa.Table.from_batches([found.rows]))
        self._rows += found.rows.num_rows

    def find(self, keys: pa.StringArray) -> Found:
        """Return the rows of keys that are known."""
        each = [self._known[key][1] for key in keys.to_pylist()]
        rows = np.concatenate([np.zeros(0, np.int64), *each])
        whole = self._united()
        at = np.repeat(np.arange(len(each)), [len(one) for one in each])
        return Found(take(whole, pa.array(rows, pa.int64())), pa.array(at, pa.int64()))

    def shrink(self) -> None:
        """Forget the oldest keys beyond the size, and the rows of keys that were forgotten or asked for anew."""
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        used = sum(len(rows) for _, rows in self._known.values())
        if self._rows <= 2 * used + 8192:
            return
        whole, start = self._united(), 0
        kept = np.concatenate([np.zeros(0, np.int64), *(rows for _, rows in self._known.values())])
        for key, (until, rows) in list(self._known.items()):
            self._known[key] = (until, np.arange(start, start + len(rows)))
            start += len(rows)
        self._chunks, self._rows = [pa.Table.from_batches([take(whole, pa.array(kept, pa.int64()))])], len(kept)

    def _united(self) -> pa.RecordBatch:
        if len(self._chunks) != 1:
            table = pa.concat_tables(self._chunks, promote_options="permissive").combine_chunks()
            self._chunks = [table]
        batches = self._chunks[0].to_batches()
        if not batches:
            return pa.RecordBatch.from_pylist([], schema=self._chunks[0].schema)
        return batches[0] if len(batches) == 1 else self._chunks[0].combine_chunks().to_batches()[0]
