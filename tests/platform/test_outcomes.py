"""What became of something is told to the request that brought it, by the output of the same engine."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penstock.identifiers import new_id
from penstock.platform.outcomes import Outcomes
from penstock.testing.contexts import lend_context

ANN, BOB = 1, 2


def test_later_ids_are_greater() -> None:
    with ThreadPoolExecutor(4) as pool:
        of_threads = list(pool.map(lambda _: [new_id() for _ in range(2000)], range(4)))
    for ids in of_threads:
        assert ids == sorted(ids)
    assert len({one for ids in of_threads for one in ids}) == 8000


async def test_what_is_under_way_of_a_user_is_known() -> None:
    known: Outcomes[str] = Outcomes()
    first, others, last = known.begin(ANN), known.begin(BOB), known.begin(ANN)
    assert first < others < last
    assert known.before(ANN, first) is None
    assert (known.before(ANN, last), known.before(BOB, last)) == (first, others)
    known.settle(first, "stored")
    assert known.before(ANN, last) is None
    assert known.begin(ANN, first) == first
    assert known.before(ANN, last) == first
    known.end(first)
    known.end(first)
    assert known.before(ANN, last) is None


async def test_all_who_wait_are_told_from_any_thread() -> None:
    known: Outcomes[str] = Outcomes()
    one, other = known.begin(ANN), known.begin(ANN)
    with known.expect(one) as first, known.expect(one) as second, known.expect(other) as third:
        await asyncio.to_thread(known.settle, one, "stored")
        assert [await first.wait(20), await second.wait(20)] == ["stored", "stored"]
        assert await third.wait(0.001) is None
        assert await first.wait(0) is None
    known.settle(other, "late")
    await asyncio.sleep(0)
    assert known._waiting == {}


async def test_one_who_gives_up_leaves_nothing_and_disturbs_nobody() -> None:
    known: Outcomes[str] = Outcomes()
    one = known.begin(ANN)

    async def wait(seconds: float) -> str | None:
        with known.expect(one) as expected:
            return await expected.wait(seconds)

    patient, gone = asyncio.create_task(wait(20)), asyncio.create_task(wait(20))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    known.settle(one, "stored")
    assert await patient == "stored"
    assert known._waiting == {}


async def test_two_engines_of_a_process_share_nothing(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as one, lend_context(tmp_path) as other:
        assert Outcomes.of(one, "health") is Outcomes.of(one, "health")
        assert Outcomes.of(one, "health") is not Outcomes.of(one, "notes")
        assert Outcomes.of(one, "health") is not Outcomes.of(other, "health")
