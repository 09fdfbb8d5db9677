"""Probes ask each system once for all who want to know, and wait for none of them longer than they may."""

from __future__ import annotations

import asyncio

import pytest

from penstock.errors import TransientError
from penstock.platform.probes import Probes
from penstock.testing.clock import FakeClock, run_jumping


async def test_each_system_is_told_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    async def well() -> None: ...

    async def ill() -> None:
        raise TransientError("no answer")

    async def broken() -> None:
        raise ZeroDivisionError

    probes = Probes({"database": well, "redis": ill, "broker": broken, "store": None})
    assert await probes.look() == {"database": "up", "redis": "down", "broker": "down", "store": "off"}
    assert "redis is not ready: no answer" in caplog.text
    assert await Probes({}).look() == {}


def test_a_system_is_asked_once_for_all_and_again_after_a_while() -> None:
    asked: list[float] = []

    async def main() -> None:
        clock = FakeClock()

        async def check() -> None:
            asked.append(clock.monotonic())
            await asyncio.sleep(1)

        probes = Probes({"database": check}, ttl=5, timeout=10, clock=clock)
        assert await asyncio.gather(*(probes.look() for _ in range(20))) == [{"database": "up"}] * 20
        await probes.look()
        await asyncio.sleep(5)
        await probes.look()

    run_jumping(main())
    assert len(asked) == 2


def test_one_that_hangs_is_down_and_keeps_the_others_from_nothing() -> None:
    async def main() -> None:
        answers = asyncio.Event()

        async def hang() -> None:
            await answers.wait()

        async def well() -> None: ...

        probes = Probes({"database": hang, "redis": well}, timeout=3, clock=FakeClock())
        for _ in range(3):
            assert await probes.look() == {"database": "down", "redis": "up"}
        answers.set()
        await asyncio.sleep(1)
        assert await probes.look() == {"database": "up", "redis": "up"}

    run_jumping(main())
