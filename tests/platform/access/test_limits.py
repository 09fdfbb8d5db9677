from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

from penstock.platform.access.limits import Demand, MemoryLimits
from penstock.platform.access.options import AccessOptions
from penstock.platform.access.redis import Replicas, SharedLimits
from penstock.platform.access.scopes import Limit
from penstock.testing.clock import StandingClock

from .conftest import INGEST

START = 1_900_000_000.0


HOUR, DAY = 3600, 86_400


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock(START)


@pytest.fixture
def limits(clock: StandingClock) -> MemoryLimits:
    return MemoryLimits(clock)


@pytest.fixture(params=["memory", "redis"])
async def any_limits(request: pytest.FixtureRequest) -> Any:
    if request.param == "memory":
        yield MemoryLimits()
        return
    replicas = Replicas(SecretStr(request.getfixturevalue("redis_url")))
    yield SharedLimits(replicas)
    assert not replicas.is_away, "it was Redis that was tested"
    await replicas.close()


def asks(limit: Limit, requests: int = 1, bytes: int = 0, subject: str = "key:1:ingest") -> list[Demand]:
    return [Demand(subject, limit, requests, bytes)]


async def test_what_fits_is_taken_and_what_does_not_is_not(any_limits):
    limit = Limit(requests=3, bytes=100)
    for used in (1, 2, 3):
        (usage,) = await any_limits.admit(asks(limit, bytes=10))
        assert usage.fits
        assert (usage.requests, usage.bytes, usage.remaining_requests) == (used, 10 * used, 3 - used)
        assert 0 < usage.reset <= HOUR + 60
        assert usage.retry == 0
    (usage,) = await any_limits.admit(asks(limit, bytes=10))
    assert not usage.fits
    assert (usage.requests, usage.bytes, usage.remaining_requests) == (3, 30, 0)
    assert HOUR - 60 < usage.retry <= HOUR + 60


async def test_bytes_are_limited_as_requests_are(any_limits):
    limit = Limit(requests=100, bytes=1000)
    assert (await any_limits.admit(asks(limit, bytes=990)))[0].fits
    assert not (await any_limits.admit(asks(limit, bytes=11)))[0].fits
    assert (await any_limits.admit(asks(limit, bytes=10)))[0].fits
    assert (await any_limits.admit(asks(limit, bytes=0)))[0].fits


async def test_beyond_the_hour_the_allowance_of_the_day_is_taken(any_limits):
    limit = Limit(requests=2, bytes=100, allowance_requests=3, allowance_bytes=5000)
    usages = [(await any_limits.admit(asks(limit)))[0] for _ in range(6)]
    assert [usage.fits for usage in usages] == [True] * 5 + [False]
    assert usages[-1].requests == 2
    assert usages[-1].remaining_allowance == (0, 5000)


async def test_a_body_larger_than_the_hour_is_taken_from_the_allowance(any_limits):
    limit = Limit(requests=10, bytes=100, allowance_requests=0, allowance_bytes=5000)
    (usage,) = await any_limits.admit(asks(limit, bytes=4000))
    assert usage.fits
    assert (usage.requests, usage.bytes, usage.allowance_bytes) == (1, 0, 4000)
    assert not (await any_limits.admit(asks(limit, bytes=2000)))[0].fits
    assert (await any_limits.admit(asks(limit, bytes=90)))[0].bytes == 90


async def test_who_asks_of_two_takes_of_both_or_of_neither(any_limits):
    few, many = Limit(requests=1, bytes=100), Limit(requests=100, bytes=100)
    demands = [Demand("key:1:read", many), Demand("address:192.0.2.1", few)]
    assert all(usage.fits for usage in await any_limits.admit(demands))
    first, second = await any_limits.admit(demands)
    assert (first.fits, second.fits) == (True, False)
    assert first.requests == 1, "what one of them refuses is not taken from the other"


async def test_fifty_at_once_with_a_limit_of_twenty_are_twenty(any_limits):
    limit = Limit(requests=20, bytes=10**6)
    usages = await asyncio.gather(*(any_limits.admit(asks(limit, bytes=1)) for _ in range(50)))
    assert sum(usage.fits for (usage,) in usages) == 20


async def test_what_is_known_afterwards_is_counted_whether_it_fits_or_not(any_limits):
    limit = Limit(requests=10, bytes=100, allowance_bytes=50)
    await any_limits.spend(asks(limit, requests=0, bytes=1000))
    (usage,) = await any_limits.admit(asks(limit, bytes=1))
    assert usage.fits
    (usage,) = await any_limits.admit(asks(limit, bytes=100))
    assert not usage.fits
    assert usage.allowance_bytes == 1000


async def test_asking_for_nothing_tells_the_usage_and_takes_nothing(any_limits):
    limit = Limit(requests=1, bytes=1)
    for _ in range(3):
        assert (await any_limits.admit(asks(limit, requests=0)))[0].requests == 0
    assert (await any_limits.admit(asks(limit)))[0].fits
    assert (await any_limits.admit(asks(limit, requests=0)))[0].fits


async def test_the_hour_slides(limits, clock):
    limit = Limit(requests=2, bytes=100)
    await limits.admit(asks(limit))
    clock.now += 1800
    await limits.admit(asks(limit))
    clock.now += 1790
    (refused,) = await limits.admit(asks(limit))
    assert not refused.fits
    clock.now += refused.retry - 0.01
    assert not (await limits.admit(asks(limit)))[0].fits
    clock.now += 0.02
    assert (await limits.admit(asks(limit)))[0].fits
    assert not (await limits.admit(asks(limit)))[0].fits


async def test_no_hour_ever_holds_more_than_the_limit(limits, clock):
    limit, taken = Limit(requests=10, bytes=100), []
    for _ in range(2000):
        clock.now += 17.3
        if (await limits.admit(asks(limit)))[0].fits:
            taken.append(clock.now)
    assert all(later - earlier >= HOUR for earlier, later in zip(taken, taken[10:], strict=False))
    assert len(taken) > 2000 * 17.3 / (HOUR + 60) * 10 - 11, "and hardly less is let in"


async def test_the_allowance_comes_back_after_a_day(limits, clock):
    limit = Limit(requests=1, bytes=1, allowance_requests=1)
    assert (await limits.admit(asks(limit)))[0].fits
    assert (await limits.admit(asks(limit)))[0].fits
    (refused,) = await limits.admit(asks(limit))
    assert refused.retry <= HOUR + 60, "the hour is free before the day is"
    clock.now += HOUR + 60
    assert (await limits.admit(asks(limit)))[0].fits
    assert not (await limits.admit(asks(limit)))[0].fits
    clock.now += DAY
    assert (await limits.admit(asks(limit)))[0].fits
    assert (await limits.admit(asks(limit)))[0].fits


async def test_what_never_fits_is_to_be_tried_no_sooner_than_in_a_day(any_limits):
    (usage,) = await any_limits.admit(asks(Limit(requests=1, bytes=10, allowance_bytes=20), bytes=21))
    assert not usage.fits
    assert usage.retry == DAY


async def test_only_so_many_are_remembered(clock):
    limits = MemoryLimits(clock, size=100)
    limit = Limit(requests=1, bytes=1)
    for number in range(1000):
        await limits.admit(asks(limit, subject=f"address:{number}"))
    assert len(limits) == 100


async def test_l14_the_schedule_of_the_app_and_a_backfill_pass(limits, clock):
    """24 synchronisations a day, then a year of 160 MB in 400 parts, through the limits as they are shipped."""
    limit, address = INGEST, AccessOptions().by_address
    for _ in range(48):
        clock.now += HOUR
        for _ in range(8):  # parts of one run
            demands = [Demand("key:1:ingest", limit, 1, 60_000), Demand("address:192.0.2.1", address, 1, 60_000)]
            assert all(usage.fits for usage in await limits.admit(demands))
    for _ in range(400):
        clock.now += 1
        demands = [Demand("key:1:ingest", limit, 1, 400_000), Demand("address:192.0.2.1", address, 1, 400_000)]
        assert all(usage.fits for usage in await limits.admit(demands))
