from __future__ import annotations

import asyncio
import datetime
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.buffers._event_time import Unreadable, Watermark, micros
from penstock.buffers._event_windows import EventWindows
from penstock.buffers.tumbling_window import TumblingWindow
from penstock.checkpoint import Checkpoint
from penstock.component import Buffer
from penstock.delivery import Batch, Delivery
from penstock.errors import EndOfInput, PenstockError, PermanentError
from penstock.metadata import without_metadata
from penstock.stream import Stream
from penstock.testing.clock import FakeClock, jumping, run_jumping
from penstock.testing.contexts import lend_context
from penstock.testing.suites import BufferSuite

from .queues import at, bounds, is_waiting, put, take, take_all, times


class TestByTheClock(BufferSuite):
    bounded = False

    @pytest.fixture
    def component(self) -> Buffer:
        return Buffer.parse({"type": "tumbling_window", "interval": "20ms"})


class TestByAColumn(BufferSuite):
    bounded = False

    @pytest.fixture
    def component(self) -> Buffer:
        return Buffer.parse(
            {
                "type": "tumbling_window",
                "interval": "5s",
                "time": "event",
                "timestamp_field": "id",
                "timestamp_unit": "s",
            }
        )

    def _rows(self, deliveries: Sequence[Delivery]) -> list[Any]:
        return [
            {key: cell for key, cell in row.items() if not key.startswith("window_")}
            for delivery in deliveries
            for row in without_metadata(delivery.batch).to_pylist()
        ]


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[EventWindows]:
    defaults = {"interval": "10s", "time": "event", "timestamp_field": "at", "timestamp_unit": "s"}
    window = TumblingWindow.model_validate({**defaults, **options})
    async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
        assert isinstance(queue, EventWindows)
        yield queue


# -- by the clock ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", ["processing", "event"])
@jumping
async def test_r5_tail_is_flushed_at_the_end(time: str) -> None:
    options = {"timestamp_field": "at", "timestamp_unit": "s"} if time == "event" else {}
    window = TumblingWindow.model_validate({"interval": "1h", "time": time, **options})
    async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
        settled = await put(queue, at(1, 2), at(3))
        queue.end()
        delivery = await take(queue)
        assert times(delivery) == [1, 2, 3]
        assert settled == []
        await delivery.ack()
        assert settled == [None, None]
        with pytest.raises(EndOfInput):
            await queue.get()


@pytest.mark.parametrize("time", ["processing", "event"])
@jumping
async def test_r5_arrival_order_is_kept(time: str) -> None:
    options = {"timestamp_field": "at", "timestamp_unit": "s"} if time == "event" else {}
    window = TumblingWindow.model_validate({"interval": "1h", "time": time, **options})
    sent = [at(*(random.Random(i).sample(range(3600), 50))) for i in range(20)]
    async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
        await put(queue, *sent)
        queue.end()
        (delivery,) = await take_all(queue)
        assert times(delivery) == [value for batch in sent for value in batch.column("at").to_pylist()]


@jumping
async def test_r5_a_window_holds_what_came_in_its_time_and_no_more() -> None:
    window = TumblingWindow(interval="100ms")
    async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
        began = asyncio.get_running_loop().time()
        await put(queue, at(1), at(2))
        await asyncio.sleep(0.13)
        await put(queue, at(3))  # of the next window, although nobody has taken the first
        assert times(await take(queue)) == [1, 2]
        assert times(await take(queue)) == [3]
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.2)
        assert await is_waiting(queue), "an empty window releases nothing"


@jumping
async def test_reading_waits_while_two_windows_are_held() -> None:
    window = TumblingWindow(interval="20ms")
    async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
        await put(queue, at(1))
        await asyncio.sleep(0.03)
        await put(queue, at(2))
        await asyncio.sleep(0.03)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.put(Delivery(at(3))), 0.1)
        assert times(await take(queue)) == [1]
        await put(queue, at(3))
        assert [times(await take(queue)) for _ in range(2)] == [[2], [3]]


@jumping
async def test_a_full_window_by_the_clock_lets_reading_wait() -> None:
    window = TumblingWindow(interval="300ms", max_rows=2)
    async with lend_context(Path(), clock=FakeClock()) as context, window.open(context) as queue:
        await put(queue, at(1, 2))
        began = asyncio.get_running_loop().time()
        await put(queue, at(3))
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.3)
        assert [times(await take(queue)) for _ in range(2)] == [[1, 2], [3]]


# -- by a column -------------------------------------------------------------------------------------------------------


@jumping
async def test_a_window_fires_when_the_watermark_passes_its_end() -> None:
    async with opened(out_of_orderness="2s") as queue:
        settled = await put(queue, at(1, 11, 9), at(11, 8))
        assert await is_waiting(queue)
        settled += await put(queue, at(12))
        delivery = await take(queue)
        assert bounds(delivery) == (0, 10)
        assert times(delivery) == [1, 9, 8]
        await delivery.ack()
        assert settled == [], "the rows of the open window are not written yet"
        queue.end()
        assert [times(one) for one in await take_all(queue)] == [[11, 11, 12]]


@jumping
async def test_windows_fire_in_their_order() -> None:
    async with opened(out_of_orderness="1h") as queue:
        await put(queue, at(95, 5, 42, 47, 3, -7, 95))
        queue.end()
        found = await take_all(queue)
        assert [bounds(delivery) for delivery in found] == [(-10, 0), (0, 10), (40, 50), (90, 100)]
        assert [times(delivery) for delivery in found] == [[-7], [5, 3], [42, 47], [95, 95]]


@jumping
async def test_timestamps_long_ago_close_windows() -> None:
    async with opened() as queue:
        await put(queue, at("0001-01-01T00:00:01Z", "0001-01-01T00:00:11Z"))
        delivery = await take(queue)
        assert delivery.batch.column("n").to_pylist() == [0]
        assert delivery.batch.column("window_start")[0].value == -62135596800 * 1_000_000
    async with opened() as queue:
        await put(queue, at(-5_000_000_003, -5_000_000_001), at(-4_999_999_999))
        assert times(await take(queue)) == [-5_000_000_003, -5_000_000_001]


@jumping
async def test_window_closes_on_an_idle_source() -> None:
    async with opened(idle_timeout="50ms") as queue:
        settled = await put(queue, at(1, 2))
        began = asyncio.get_running_loop().time()
        delivery = await take(queue)
        assert times(delivery) == [1, 2]
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.05)
        await delivery.ack()
        assert settled == [None]
        await put(queue, at(3), at(25))
        assert queue.late_rows == 1
        assert times(await take(queue)) == [25]


@jumping
async def test_without_idle_timeout_a_window_of_an_idle_source_stays_open() -> None:
    async with opened() as queue:
        await put(queue, at(1))
        assert await is_waiting(queue)


@jumping
async def test_with_idle_timeout_the_slowest_partition_counts() -> None:
    one, other = Checkpoint("one"), Checkpoint("other")
    async with opened(idle_timeout="200ms") as queue:
        await queue.put(await one.deliver(at(1), 1))
        await queue.put(await other.deliver(at(2), 1))
        await queue.put(await one.deliver(at(15), 2))
        assert await is_waiting(queue)
        await queue.put(await other.deliver(at(9), 2))

        async def go_on() -> None:
            for step in range(100):
                await asyncio.sleep(0.03)
                await queue.put(await one.deliver(at(16), 3 + step))

        going_on = asyncio.ensure_future(go_on())
        delivery = await take(queue)
        going_on.cancel()
        assert times(delivery) == [1, 2, 9]
        assert queue.late_rows == 0


@jumping
async def test_the_time_reading_waits_is_not_silence() -> None:
    async with opened(idle_timeout="80ms") as queue:
        await put(queue, at(1, 11))
        putting = asyncio.ensure_future(put(queue, at(12)))
        await asyncio.sleep(0.15)
        assert times(await take(queue)) == [1]
        assert await is_waiting(queue)
        await putting
        assert times(await take(queue)) == [11, 12]


@jumping
async def test_late_rows_are_dropped_counted_and_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as queue:
        await put(queue, at(25))
        with caplog.at_level(logging.WARNING):
            settled = await put(queue, at(1, 2), at(3, 26, 4))
        assert queue.late_rows == 4
        assert len(caplog.records) == 1
        assert settled == [None]
        queue.end()
        assert [times(delivery) for delivery in await take_all(queue)] == [[25, 26]]
        assert settled == [None, None]


@jumping
async def test_late_rows_are_routed_with_their_reason() -> None:
    async with opened(late="route") as queue:
        await put(queue, at(25))
        settled = await put(queue, at(1, 26, 2, 13))
        refused = [await take(queue) for _ in range(2)]
        assert [times(delivery) for delivery in refused] == [[1, 2], [13]]
        for delivery in refused:
            assert isinstance(delivery.error, PermanentError)
        assert "late: window 1970-01-01 00:00:00" in str(refused[0].error)
        assert "closed at watermark 1970-01-01 00:00:26" in str(refused[0].error)
        queue.end()
        (delivery,) = await take_all(queue)
        assert delivery.error is None
        assert settled == []
        for delivery in refused:
            await delivery.ack()
        assert settled == [None]


@jumping
async def test_a_window_waits_for_late_rows_when_it_fires_once() -> None:
    async with opened(late="route", allowed_lateness="5s") as queue:
        await put(queue, at(1), at(14), at(2))
        assert await is_waiting(queue)
        await put(queue, at(15))
        assert times(await take(queue)) == [1, 2]


@jumping
async def test_a_late_row_updates_its_window() -> None:
    async with opened(late="update", allowed_lateness="10s") as queue:
        settled = await put(queue, at(1), at(11))
        first = await take(queue)
        assert times(first) == [1]
        await first.ack()
        settled += await put(queue, at(2))
        second = await take(queue)
        assert times(second) == [1, 2]
        assert bounds(second) == (0, 10)
        await second.ack()
        assert settled == [], "its rows are kept until it takes no more"
        await put(queue, at(21))
        third = await take(queue)
        assert bounds(third) == (10, 20)
        await third.ack()
        await put(queue, at(3))
        assert queue.late_rows == 1
        queue.end()
        assert [times(delivery) for delivery in await take_all(queue)] == [[21]]


@pytest.mark.parametrize("late", ["drop", "route", "update"])
@jumping
async def test_everything_is_settled_once_at_the_end(late: str) -> None:
    """Whatever becomes of a row, its loan is settled, and only when all of its windows are written."""
    random_ = random.Random(3)
    settled: dict[int, int] = {}
    async with opened(late=late, allowed_lateness="7s", out_of_orderness="1s") as queue:

        async def fill() -> None:
            clock = 0
            for number in range(200):
                clock += random_.randrange(3)
                cells = [clock - random_.randrange(25) if random_.random() < 0.9 else None for _ in range(5)]

                async def settle(error: Exception | None, number: int = number) -> None:
                    settled[number] = settled.get(number, 0) + 1

                await queue.put(Delivery.settled_by(at(*cells, type=pa.int64()), settle))
            queue.end()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fill())
            await take_all(queue)
    assert settled == dict.fromkeys(range(200), 1)


@jumping
async def test_rows_without_a_time_are_refused_and_the_others_kept() -> None:
    async with opened() as queue:
        settled = await put(queue, at("1970-01-01T00:00:01", None, "soon", "1970-02-30", "1970-01-01 00:00:02+00:00"))
        refused = await take(queue)
        assert times(refused) == [None, "soon", "1970-02-30"]
        assert isinstance(refused.error, PermanentError)
        assert "column 'at'" in str(refused.error)
        await refused.ack()
        queue.end()
        (delivery,) = await take_all(queue)
        assert delivery.batch.column("n").to_pylist() == [0, 4]
        assert settled == [None]


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (pa.record_batch({"n": [1]}), "there is no column 'at'"),
        (at(True), "of type bool"),
        (at(None), "no time can be read"),
    ],
)
@jumping
async def test_a_batch_without_times_is_refused(batch: Batch, reason: str) -> None:
    async with opened() as queue:
        await put(queue, batch)
        refused = await take(queue)
        assert reason in str(refused.error)
        assert refused.batch.equals(batch)


@jumping
async def test_too_many_rows_name_the_option() -> None:
    async with opened(max_rows=3, overflow="stop") as queue:
        await put(queue, at(1, 2, 3))
        with pytest.raises(PenstockError, match=r"max_rows \(3\)"):
            await put(queue, at(4))


@jumping
async def test_reading_waits_while_a_window_waits_to_be_taken() -> None:
    async with opened() as queue:
        await put(queue, at(1), at(11))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.put(Delivery(at(12))), 0.05)
        await take(queue)
        await put(queue, at(12))


@jumping
async def test_columns_of_the_same_name_are_replaced() -> None:
    async with opened() as queue:
        await put(queue, pa.record_batch({"at": [1], "window_start": ["mine"]}))
        queue.end()
        (delivery,) = await take_all(queue)
        assert delivery.batch.schema.names == ["at", "window_start", "window_end"]
        assert bounds(delivery) == (0, 10)


@jumping
async def test_a_window_of_rows_that_do_not_fit_together_goes_out_in_parts() -> None:
    async with opened() as queue:
        await put(queue, pa.record_batch({"at": [1], "x": [1]}), pa.record_batch({"at": [2], "x": ["a"]}))
        queue.end()
        found = await take_all(queue)
        assert [times(delivery) for delivery in found] == [[1], [2]]
        assert {bounds(delivery) for delivery in found} == {(0, 10)}


@given(st.lists(st.lists(st.integers(-60, 60), min_size=1, max_size=20), max_size=12), st.integers(1, 25))
def test_each_row_is_in_its_window_in_arrival_order(batches: list[list[int]], seconds: int) -> None:
    async def run() -> None:
        async with opened(interval=f"{seconds}s", out_of_orderness="200s") as queue:
            await put(queue, *(at(*cells) for cells in batches))
            queue.end()
            found = await take_all(queue)
        windows: dict[int, list[int]] = {}
        for time in (time for cells in batches for time in cells):
            windows.setdefault(time // seconds * seconds, []).append(time)
        assert [(bounds(delivery)[0], times(delivery)) for delivery in found] == sorted(windows.items())

    asyncio.run(run())


# -- the parts ---------------------------------------------------------------------------------------------------------

MOMENT = datetime.datetime(2026, 3, 4, 5, 6, 7, 250_000, tzinfo=datetime.UTC)
MICROS = round(MOMENT.timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("array", "unit", "expected"),
    [
        (pa.array([MOMENT], pa.timestamp("us", "UTC")), "ms", MICROS),
        (pa.array([MOMENT], pa.timestamp("ns", "Asia/Tokyo")), "ms", MICROS),
        (pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("ms")), "s", MICROS),
        (pa.array([-1], pa.timestamp("ns")), "s", -1),
        (pa.array([datetime.date(1969, 12, 31)]), "s", -86400 * 1_000_000),
        (pa.array([MICROS // 1000]), "ms", MICROS),
        (pa.array([MICROS // 1000 // 1000], pa.uint32()), "s", MICROS - 250_000),
        (pa.array([MICROS * 1000], pa.uint64()), "ns", MICROS),
        (pa.array([MICROS]), "us", MICROS),
        (pa.array([MICROS / 1e6]), "ns", MICROS),
        (pa.array(["2026-03-04T05:06:07.25Z"]), "ms", MICROS),
        (pa.array(["2026-03-04T06:06:07.250000123+01:00"]), "ms", MICROS),
        (pa.array(["2026-03-04t05:06:07.25z"]), "ms", MICROS),
        (pa.array(["2026-03-04 05:06:07.25"], pa.string_view()), "ms", MICROS),
        (pa.array(["2026-03-04T05:06:07.25Z"]).dictionary_encode(), "ms", MICROS),
        (pa.array([" 2026-03-04"], pa.large_string()), "ms", MICROS - (5 * 3600 + 6 * 60 + 7) * 1_000_000 - 250_000),
    ],
)
def test_times_are_read_from_every_kind_of_column(array: pa.Array, unit: Any, expected: int) -> None:
    found, valid = micros(pa.record_batch({"at": array}), "at", unit)
    assert valid is None or valid.all()
    assert found.tolist() == [expected]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1.0, None, float("nan"), float("inf"), 1e300]),
        pa.array([1, None, 1 << 62, -(1 << 62), 1 << 61]),
        pa.array([1, None, (1 << 64) - 1, 1 << 63, 1 << 62], pa.uint64()),
        pa.array(["1970-01-01T00:00:01", None, "", "1", "1970-13-01T00:00:01"]),
        pa.array([1, None, 1 << 60, 1 << 60, 1 << 60], pa.timestamp("s")),
    ],
)
def test_what_is_no_time_is_told_apart(array: pa.Array) -> None:
    found, valid = micros(pa.record_batch({"at": array}), "at", "s")
    assert valid is not None
    assert valid.tolist() == [True, False, False, False, False]
    assert found[0] == 1_000_000


def test_a_column_of_another_type_cannot_be_read() -> None:
    with pytest.raises(Unreadable, match="of type list"):
        micros(pa.record_batch({"at": [[1]]}), "at")


def test_a_watermark_never_falls() -> None:
    watermark = Watermark(5, idle_timeout=10.0)
    watermark.observe("a", 100, now=0)
    watermark.observe("b", 20, now=1)
    assert watermark.value == 95
    watermark.observe("a", 120, now=5)
    assert watermark.value == 95
    watermark.follow(now=12)
    assert watermark.value == 115
    assert not watermark.is_idle(12)
    assert watermark.idle_at(12) == 15
    assert watermark.is_idle(15)


# -- the options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "interval"),
        ({"interval": "1s", "time": "event"}, "needs `timestamp_field`"),
        ({"interval": "1s", "late": "route"}, "`late` needs `time: event`"),
        ({"interval": "0s"}, "greater than 0"),
        ({"interval": 10}, "10ms"),
        ({"interval": "1s", "join": {}}, "Field required"),
        ({"interval": "10ns", "time": "event", "timestamp_field": "at"}, "less than 1us"),
        (
            {"interval": "1s", "time": "event", "timestamp_field": "at", "late": "drop", "late_event_policy": "drop"},
            "say the same",
        ),
        (
            {
                "interval": "1s",
                "time": "event",
                "timestamp_field": "at",
                "idle_timeout": "1s",
                "watermark": {"idle_timeout_ms": 1},
            },
            "say the same",
        ),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TumblingWindow.model_validate(options)


@jumping
async def test_the_other_names_mean_the_same() -> None:
    async with opened(
        watermark={"out_of_orderness_ms": 2000, "idle_timeout_ms": 60_000},
        allowed_lateness_ms=1000,
        late_event_policy="route",
    ) as queue:
        await put(queue, at(1), at(12))
        assert await is_waiting(queue)
        await put(queue, at(13))
        assert times(await take(queue)) == [1]
        await put(queue, at(2))
        assert (await take(queue)).error is not None


def test_the_column_is_one_it_reads() -> None:
    assert TumblingWindow(interval="1s").columns_read() == frozenset()
    event = TumblingWindow(interval="1s", time="event", timestamp_field="at")
    assert event.columns_read() == {"at"}
    assert TumblingWindow(interval="1s").columns_added() == frozenset()
    assert event.columns_added() == {"window_start", "window_end"}
    assert event.most_held() is None


def test_the_input_need_not_look_for_the_columns_that_are_added() -> None:
    stream = {
        "input": {"type": "memory", "messages": []},
        "buffer": {"type": "tumbling_window", "interval": "1s", "time": "event", "timestamp_field": "at"},
        "pipeline": [{"type": "sql", "query": "SELECT window_start, sum(a) AS a FROM flow GROUP BY window_start"}],
        "output": {"type": "drop"},
    }
    assert Stream.model_validate(stream).columns_read() == {"a", "at"}


def test_the_time_a_full_buffer_waits_is_no_silence_of_any_source() -> None:
    """Two sources, one slow reader: the source that waits its turn for a minute is not taken for idle."""

    async def main() -> list[list[Any]]:
        fast, slow = Checkpoint("fast"), Checkpoint("slow")
        async with opened(idle_timeout="10s") as queue:
            await queue.put(await fast.deliver(at(1), 1))
            await queue.put(await slow.deliver(at(12), 1))
            await queue.put(await fast.deliver(at(23), 2))  # the window to 10 is ready, and nobody takes it yet
            putting = asyncio.ensure_future(queue.put(await fast.deliver(at(35), 3)))
            await asyncio.sleep(60)
            found = [times(await take(queue))]
            await putting
            await asyncio.wait_for(queue.put(await slow.deliver(at(13), 2)), 60)
            assert queue.late_rows == 0
            queue.end()
            return [*found, *(times(delivery) for delivery in await take_all(queue))]

    assert run_jumping(main()) == [[1], [12, 13], [23], [35]]


def test_size_is_another_name_of_interval() -> None:
    assert TumblingWindow.parse({"type": "tumbling_window", "size": "5s"}).length == 5  # type: ignore[attr-defined]
    for options in ({}, {"size": "5s", "interval": "5s"}):
        with pytest.raises(ValidationError, match="`interval` or `size`"):
            Buffer.parse({"type": "tumbling_window", **options})


@jumping
async def test_rows_so_far_go_out_on_a_period_and_again_with_their_window(tmp_path: Path) -> None:
    buffer = Buffer.parse(
        {"type": "tumbling_window", "size": "10s", "time": "event", "timestamp_field": "at", "emit_every": "1m"}
    )
    async with lend_context(tmp_path, clock=FakeClock()) as context, buffer.open(context) as queue:
        settled = await put(queue, at(1000), at(2000))
        early = await asyncio.wait_for(queue.get(), 3600)
        assert times(early) == [1000, 2000]
        await early.ack()
        assert settled == []
        more = await put(queue, at(3000))
        queue.end()
        (last,) = await take_all(queue)
        assert times(last) == [1000, 2000, 3000]
        assert settled + more == [None] * 3


def test_an_input_that_was_not_heard_yet_is_waited_for_until_it_is_idle() -> None:
    watermark = Watermark(0, 60.0, None, ["stream/input/a", "stream/input/b"], now=0.0)
    watermark.observe("stream/input/a/0", 100, now=1.0)
    assert watermark.value is None
    assert watermark.idle_at(1.0) == 60.0
    watermark.observe("stream/input/b", 50, now=2.0)
    assert watermark.value == 50
    watermark = Watermark(0, 60.0, None, ["stream/input/a", "stream/input/b"], now=0.0)
    watermark.observe("stream/input/a", 100, now=1.0)
    watermark.follow(60.5)
    assert watermark.value == 100
