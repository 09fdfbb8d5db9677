"""Hold deliveries back until enough of them are there, or it is time, and hand them out as one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..clock import Clock
from ..delivery import Delivery
from ..errors import EndOfInput
from ._merging import Merge, merged


@dataclass(frozen=True, slots=True)
class Limits:
    """When a group is full; None for a measure that does not matter."""

    rows: int | None = None
    deliveries: int | None = None
    bytes: int | None = None


class Grouping:
    """A queue that hands out groups: when full, at their deadline, or at the end.

    A group that nobody takes goes on growing until it is full, then ``put`` waits. Not so with ``timed``, where a
    group holds what came before its deadline and nothing else: one that is over waits to be taken while the next
    is gathered, then ``put`` waits, and being full only makes ``put`` wait for the deadline.

    ``deadline`` gives the deadline of a group from the time at which its first delivery comes; where it is
    ``extended``, each later delivery moves it on.
    """

    def __init__(
        self,
        limits: Limits,
        deadline: Callable[[float], float],
        clock: Clock,
        *,
        timed: bool = False,
        extended: bool = False,
        merge: Merge = merged,
    ) -> None:
        self._clock, self._merge = clock, merge
        self._limits, self._deadline, self._timed, self._extended = limits, deadline, timed, extended
        self._group: list[Delivery] = []
        self._rows = self._bytes = 0
        self._until: float | None = None
        self._over: list[Delivery] = []
        self._merging: list[Delivery] = []
        self._out: deque[Delivery] = deque()
        self._ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, delivery: Delivery) -> None:
        """Take a delivery; waits while as much as may be held is waiting to be taken."""
        if not delivery.batch.num_rows:
            await delivery.ack()
            return
        now = self._clock.monotonic()
        while not self._ended and not self._has_room(now):
            self._room.clear()
            is_early = self._until is not None and now < self._until
            await wait_until(self._clock, self._room, self._until if is_early else None)
            now = self._clock.monotonic()
        if not self._group or self._extended:
            self._until = self._deadline(now)
        self._group.append(delivery)
        self._rows += delivery.batch.num_rows
        self._bytes += delivery.batch.nbytes if self._limits.bytes is not None else 0
        self._changed.set()

    def _has_room(self, now: float) -> bool:
        if self._timed and self._group and self._late(now) and not self._over:
            self._over = self._take()
        if not self._group:
            return not self._out
        return not self._full() and not (self._timed and self._late(now))

    def _late(self, now: float) -> bool:
        return self._until is not None and now >= self._until

    def _full(self) -> bool:
        limits = self._limits
        return (
            (limits.rows is not None and self._rows >= limits.rows)
            or (limits.deliveries is not None and len(self._group) >= limits.deliveries)
            or (limits.bytes is not None and self._bytes >= limits.bytes)
        )

    def _is_over(self, now: float) -> bool:
        return self._late(now) or (self._full() and not self._timed)

    def _take(self) -> list[Delivery]:
        group, self._group = self._group, []
        self._rows, self._bytes, self._until = 0, 0, None
        self._room.set()
        return group

    async def get(self) -> Delivery:
        """Return the next group as one delivery; raises EndOfInput once ended and empty."""
        while not self._out:
            if not self._merging:
                if self._over:
                    self._merging, self._over = self._over, []
                    self._room.set()
                elif self._group and (self._ended or self._is_over(self._clock.monotonic())):
                    self._merging = self._take()
                elif self._ended:
                    raise EndOfInput
                else:
                    self._changed.clear()
                    await wait_until(self._clock, self._changed, self._until)
                    continue
            self._out.extend(await self._merge(self._merging))  # cancelled here, the next call merges them again
            self._merging = []
        delivery = self._out.popleft()
        self._room.set()
        return delivery

    def end(self) -> None:
        """Hand out what is held, since nothing more will be put."""
        self._ended = True
        self._changed.set()
        self._room.set()


async def wait_until(clock: Clock, event: asyncio.Event, until: float | None) -> bool:
    """Wait for ``event``, at most until the monotonic time is ``until``; returns whether it came."""
    return await clock.wait(event, None if until is None else until - clock.monotonic())
