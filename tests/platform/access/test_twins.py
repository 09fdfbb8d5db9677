"""The limiter in Redis and the one in memory count alike, whatever is asked for and whenever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from penstock.platform.access.limits import Demand, MemoryLimits, Usage
from penstock.platform.access.redis import ADMIT, Replicas, SharedLimits
from penstock.platform.access.scopes import Limit
from penstock.testing.clock import StandingClock

START = 1_900_000_020
_TIME = "redis.call('TIME')[1]"
_numbers = count()

LIMITS = st.builds(
    Limit,
    requests=st.integers(1, 6),
    bytes=st.integers(1, 1000),
    allowance_requests=st.integers(0, 8),
    allowance_bytes=st.integers(0, 2000),
)
ASKED = st.tuples(st.integers(0, 3), st.integers(0, 1500))
PAUSES = st.sampled_from([0, 1, 59, 60, 61, 899, 900, 3539, 3540, 3599, 3600, 3661, 7200, 85_500, 86_400, 90_000])
DEMANDS = st.dictionaries(st.sampled_from("abc"), ASKED, min_size=1)
STEPS = st.lists(
    st.tuples(PAUSES, st.booleans(), DEMANDS),
    min_size=1,
    max_size=25,
)


class Twins:
    """Both limiters by one clock."""

    def __init__(self, url: str) -> None:
        assert ADMIT.count(_TIME) == 1
        self.runner = asyncio.Runner()
        self.replicas = self.runner.run(self._connect(url))

    async def _connect(self, url: str) -> Replicas:
        replicas = Replicas(SecretStr(url))
        script = ADMIT.replace(_TIME, "redis.call('GET', 'test:now')")
        replicas.admit = replicas._client.register_script(script)
        return replicas

    def run(self, limits: dict[str, Limit], steps: list[tuple[int, bool, dict[str, tuple[int, int]]]]) -> None:
        self.runner.run(self._run(limits, steps))

    async def _run(self, limits: dict[str, Limit], steps: Any) -> None:
        clock, number = StandingClock(START), next(_numbers)
        memory, shared = MemoryLimits(clock), SharedLimits(self.replicas)
        for pause, is_spent, asked in steps:
            clock.now += pause
            await self.replicas._client.set("test:now", int(clock.now))
            demands = [Demand(f"{number}:{name}", limits[name], *wanted) for name, wanted in asked.items()]
            if is_spent:
                await memory.spend(demands)
                await shared.spend(demands)
            assert await self._admit(shared, demands) == await memory.admit(demands)
            looked = [Demand(f"{number}:{name}", limit, 0, 0) for name, limit in limits.items()]
            assert await self._admit(shared, looked) == await memory.admit(looked)

    async def _admit(self, shared: SharedLimits, demands: list[Demand]) -> list[Usage]:
        found = await shared.admit(demands)
        assert not self.replicas.is_away, "it was Redis that was asked"
        return found

    def close(self) -> None:
        self.runner.run(self.replicas.close())
        self.runner.close()


@pytest.fixture
def twins(redis_url: str) -> Iterator[Twins]:
    made = Twins(redis_url)
    yield made
    made.close()


@pytest.mark.server
def test_redis_and_memory_count_alike(twins: Twins) -> None:
    @settings(max_examples=60, deadline=None, database=None)
    @given(st.fixed_dictionaries(dict.fromkeys("abc", LIMITS)), STEPS)
    def agree(limits: dict[str, Limit], steps: Any) -> None:
        twins.run(limits, steps)

    agree()
