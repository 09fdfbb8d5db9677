"""Rate limits: a sliding hour for each key and address, and an allowance of the day beyond it.

A request counts from the minute in which it came until an hour after that minute has ended, so no span of an hour ever
holds more than the limit. What does not fit into the hour is taken from the allowance of the day, which is counted the
same way in quarters of an hour. Requests and bytes are taken separately. What fits into neither is refused, and then
nothing is taken from anybody.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ...clock import Clock
from .scopes import Limit

CACHE_SIZE = 50_000
"""Of how many keys and addresses usage is kept in memory; those that were idle longest are forgotten first."""


class Window(NamedTuple):
    """A sliding window, in seconds, and the buckets it is counted in."""

    bucket: int
    buckets: int

    @property
    def length(self) -> int:
        """How long what came at the very end of a bucket counts, in seconds."""
        return self.bucket * self.buckets


HOUR = Window(60, 60)
DAY = Window(900, 96)


class Demand(NamedTuple):
    """Requests and bytes that somebody asks for within ``limit``, counted under the name ``subject``."""

    subject: str
    limit: Limit
    requests: int = 1
    bytes: int = 0


class Usage(NamedTuple):
    """How much of a limit is used after a demand, and whether that was taken."""

    limit: Limit
    fits: bool
    requests: int
    """In this hour."""
    bytes: int
    allowance_requests: int
    """In this day beyond the hours."""
    allowance_bytes: int
    reset: float
    """In how many seconds the oldest of the hour stops counting."""
    retry: float
    """In how many seconds the demand would fit; 0 if it did."""

    @property
    def remaining_requests(self) -> int:
        """How many more requests the hour takes."""
        return max(0, self.limit.requests - self.requests)

    @property
    def remaining_bytes(self) -> int:
        """How many more bytes the hour takes."""
        return max(0, self.limit.bytes - self.bytes)

    @property
    def remaining_allowance(self) -> tuple[int, int]:
        """How many more requests and bytes the day takes beyond its hours."""
        return (
            max(0, self.limit.allowance_requests - self.allowance_requests),
            max(0, self.limit.allowance_bytes - self.allowance_bytes),
        )


class Limits(Protocol):
    """Count requests and bytes."""

    async def admit(self, demands: Sequence[Demand]) -> list[Usage]:
        """Take all of the demands if all fit, else none of them; returns the usage for each."""

    async def spend(self, demands: Sequence[Demand]) -> None:
        """Take the demands, whether they fit or not: for what is known afterwards only."""


class Counts:
    """The requests and bytes of one subject, by the number of the bucket since 1970."""

    __slots__ = ("day", "hour")

    def __init__(self) -> None:
        self.hour: dict[int, list[int]] = {}
        self.day: dict[int, list[int]] = {}


class MemoryLimits:
    """Count in this process alone."""

    def __init__(self, clock: Clock | None = None, size: int = CACHE_SIZE) -> None:
        self._clock, self._size = clock or Clock(), size
        self._counts: OrderedDict[str, Counts] = OrderedDict()

    async def admit(self, demands: Sequence[Demand]) -> list[Usage]:
        """Take all of the demands if all fit, else none of them."""
        now = self._clock.time()
        counts = [self._of(demand.subject, now) for demand in demands]
        if all(_fits(demand, of) for demand, of in zip(demands, counts, strict=True)):
            for demand, of in zip(demands, counts, strict=True):
                _take(demand, of, now)
            return [usage(demand, of, now, fits=True) for demand, of in zip(demands, counts, strict=True)]
        return [usage(demand, of, now, _fits(demand, of)) for demand, of in zip(demands, counts, strict=True)]

    async def spend(self, demands: Sequence[Demand]) -> None:
        """Take the demands, whether they fit or not."""
        now = self._clock.time()
        for demand in demands:
            _take(demand, self._of(demand.subject, now), now)

    def __len__(self) -> int:
        return len(self._counts)

    def _of(self, subject: str, now: float) -> Counts:
        counts = self._counts.setdefault(subject, Counts())
        self._counts.move_to_end(subject)
        while len(self._counts) > self._size:
            self._counts.popitem(last=False)
        for window, buckets in ((HOUR, counts.hour), (DAY, counts.day)):
            for bucket in [bucket for bucket in buckets if bucket < oldest(window, now)]:
                del buckets[bucket]
        return counts


def oldest(window: Window, now: float) -> int:
    """Return the first bucket that still counts: the one that ended less than the length of the window ago."""
    return int(now // window.bucket) - window.buckets


def _sum(buckets: dict[int, list[int]], part: int) -> int:
    return sum(bucket[part] for bucket in buckets.values())


def _wanted(demand: Demand) -> tuple[tuple[int, int, int], ...]:
    """What is wanted, the limit of the hour and the allowance of the day; for requests, and for bytes."""
    limit = demand.limit
    return (
        (demand.requests, limit.requests, limit.allowance_requests),
        (demand.bytes, limit.bytes, limit.allowance_bytes),
    )


def _fits(demand: Demand, counts: Counts) -> bool:
    return all(
        not want or _sum(counts.hour, part) + want <= hour or _sum(counts.day, part) + want <= day
        for part, (want, hour, day) in enumerate(_wanted(demand))
    )


def _take(demand: Demand, counts: Counts, now: float) -> None:
    for part, (want, hour, _) in enumerate(_wanted(demand)):
        if not want:
            continue
        within = _sum(counts.hour, part) + want <= hour
        window, buckets = (HOUR, counts.hour) if within else (DAY, counts.day)
        buckets.setdefault(int(now // window.bucket), [0, 0])[part] += want


def usage(demand: Demand, counts: Counts, now: float, fits: bool) -> Usage:
    """Return what is used of the limit of ``demand``."""
    first = min(counts.hour, default=None)
    return Usage(
        limit=demand.limit,
        fits=fits,
        requests=_sum(counts.hour, 0),
        bytes=_sum(counts.hour, 1),
        allowance_requests=_sum(counts.day, 0),
        allowance_bytes=_sum(counts.day, 1),
        reset=(first + 1) * HOUR.bucket + HOUR.length - now if first is not None else 0.0,
        retry=0.0 if fits else _retry(demand, counts, now),
    )


def _retry(demand: Demand, counts: Counts, now: float) -> float:
    """In how many seconds the demand fits if nothing else comes; a day if it never does."""
    longest = 0.0
    for part, (want, hour, day) in enumerate(_wanted(demand)):
        if want:
            waits = (_wait(HOUR, counts.hour, part, want, hour, now), _wait(DAY, counts.day, part, want, day, now))
            longest = max(longest, min(waits))
    return min(longest, float(DAY.length))


def _wait(window: Window, buckets: dict[int, list[int]], part: int, want: int, limit: int, now: float) -> float:
    used = _sum(buckets, part)
    if used + want <= limit:
        return 0.0
    if want > limit:
        return float("inf")
    for bucket in sorted(buckets):
        used -= buckets[bucket][part]
        if used + want <= limit:
            return (bucket + 1) * window.bucket + window.length - now
    return float("inf")
