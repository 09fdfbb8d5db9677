from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.buffers.session_window import SessionWindow
from penstock.component import Buffer
from penstock.delivery import Delivery
from penstock.testing.clock import FakeClock, jumping, run_jumping
from penstock.testing.contexts import lend_context
from penstock.testing.suites import BufferSuite

from .queues import at, bounds, put, take, take_all, take_in_time, times

EVENT = {"time": "event", "timestamp_field": "at", "timestamp_unit": "s"}


class TestByTheClock(BufferSuite):
    bounded = False

    @pytest.fixture
    def component(self) -> Buffer:
        return Buffer.parse({"type": "session_window", "gap": "20ms"})


class TestByAColumn(BufferSuite):
    bounded = False

    @pytest.fixture
    def component(self) -> Buffer:
        return Buffer.parse({"type": "session_window", "gap": "5s", **EVENT, "timestamp_field": "id"})

    def _rows(self, deliveries: Sequence[Delivery]) -> list[Any]:
        return [
            {key: cell for key, cell in row.items() if not key.startswith("window_")}
            for delivery in deliveries
            for row in super(TestByAColumn, self)._rows([delivery])
        ]


def sessions_of(rows: list[int], gap: int) -> dict[tuple[int, int], list[int]]:
    sessions: list[list[int]] = []
    for time in sorted(rows):
        if sessions and time - sessions[-1][-1] < gap:
            sessions[-1].append(time)
        else:
            sessions.append([time])
    return {(session[0], session[-1] + gap): session for session in sessions}


@given(st.lists(st.lists(st.integers(-60, 60), min_size=1, max_size=12), max_size=6), st.integers(1, 20))
def test_rows_that_follow_upon_one_another_are_one_session(batches: list[list[int]], gap: int) -> None:
    window = SessionWindow.model_validate({"gap": f"{gap}s", "out_of_orderness": "200s", **EVENT})

    async def main() -> dict[tuple[int, int], list[int]]:
        async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
            settled = await put(queue, *(at(*batch) for batch in batches))
            assert settled == []
            queue.end()
            found = {bounds(delivery): times(delivery) for delivery in await take_all(queue)}
            assert settled == [None] * len(batches)
            return found

    rows = [time for batch in batches for time in batch]
    found = run_jumping(main())
    assert {span: sorted(session) for span, session in found.items()} == sessions_of(rows, gap)
    if all(len(batch) == 1 for batch in batches):
        for session in found.values():  # in the order of arrival
            remaining = iter(rows)
            assert all(time in remaining for time in session)


@jumping
async def test_a_row_between_two_sessions_makes_them_one() -> None:
    window = SessionWindow.model_validate({"gap": "10s", "out_of_orderness": "30s", **EVENT})
    async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
        await put(queue, at(0), at(15))
        await put(queue, at(8))
        await put(queue, at(56))
        delivery = await take(queue)
        assert (bounds(delivery), times(delivery)) == ((0, 25), [0, 15, 8])


@jumping
async def test_a_late_row_that_an_open_session_reaches_is_taken() -> None:
    window = SessionWindow.model_validate({"gap": "10s", "late": "route", **EVENT})
    async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
        await put(queue, at(0), at(9), at(18))
        await put(queue, at(3))  # alone it would have ended at 13, before the watermark
        await put(queue, at(30))
        delivery = await take(queue)
        assert (bounds(delivery), times(delivery)) == ((0, 28), [0, 9, 18, 3])
        await put(queue, at(4))
        late = await take(queue)
        assert times(late) == [4]
        assert "closed at watermark" in str(late.error)


@jumping
async def test_a_late_row_is_taken_with_what_keeps_its_session_open() -> None:
    window = SessionWindow.model_validate({"gap": "10s", "late": "route", **EVENT})
    async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
        await put(queue, at(100))
        await put(queue, at(85, 93, 110))  # 85 would be late alone; 93 is in the session of 100
        queue.end()
        assert [(bounds(each), times(each)) for each in await take_all(queue)] == [
            ((85, 110), [100, 85, 93]),
            ((110, 120), [110]),
        ]


def test_by_the_clock_a_session_ends_when_nothing_has_come() -> None:
    window = SessionWindow.model_validate({"gap": "10s"})

    async def main() -> list[tuple[float, list[int]]]:
        async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:

            async def feed() -> None:
                for number, pause in enumerate((6, 6, 30, 4, 50)):
                    await put(queue, at(number))
                    await asyncio.sleep(pause)
                queue.end()

            return await take_in_time(queue, feed)

    assert run_jumping(main()) == [(22, [0, 1, 2]), (56, [3, 4])]


def test_by_the_clock_a_session_that_waits_to_be_taken_is_over() -> None:
    window = SessionWindow.model_validate({"gap": "10s"})

    async def main() -> list[list[int]]:
        async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
            await put(queue, at(1))
            await asyncio.sleep(25)
            await put(queue, at(2))
            queue.end()
            return [times(delivery) for delivery in await take_all(queue)]

    assert run_jumping(main()) == [[1], [2]]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"gap": "1s", **EVENT, "late": "update"}, "cannot grow"),
        ({"gap": "1s", **EVENT, "late_event_policy": "update"}, "cannot grow"),
        ({"gap": "1s", "late": "route"}, "needs `time: event`"),
        ({"gap": "0s"}, "greater than 0"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        SessionWindow.model_validate(options)
