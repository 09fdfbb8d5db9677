"""Rows that nobody takes: without an error output the stream fails at once, with one they are seen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import PrivateAttr

from penstock import Context, Engine, Input, Output, PermanentError, Processor
from penstock.component import Reader, Writer
from penstock.delivery import Batch, Delivery
from penstock.inputs.feed import feed
from penstock.observe.condition import MIN_ALL_REFUSED, Condition
from penstock.outputs import memory
from penstock.testing.clock import StandingClock

from .streams import ERRORS, lines, stream, until


class Idle(Input, type="test_refusals_idle"):
    """Deliver one good and one bad payload, and then wait for ever: by position, to a broker, or as a queue does."""

    kind: str
    _nacked: list[Exception] = PrivateAttr(default_factory=list)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        async def commit(position: Any) -> None: ...

        checkpoint = None
        if self.kind != "queue":
            checkpoint = await context.checkpoint(commit=commit if self.kind == "broker" else None)

        class Payloads:
            def __init__(self) -> None:
                self.waiting = [b'{"n": 1}', b"bad"]

            async def read(this) -> Delivery:
                if not this.waiting:
                    await asyncio.get_running_loop().create_future()
                payload = this.waiting.pop(0)
                batch = pa.record_batch({"__value__": pa.array([payload], pa.binary())})
                if checkpoint is not None:
                    return await checkpoint.deliver(batch, 2 - len(this.waiting))

                async def settle(error: Exception | None) -> None:
                    if error is not None:
                        self._nacked.append(error)
                        this.waiting.append(payload)

                return Delivery.settled_by(batch, settle)

        yield Payloads()


class Choosy(Processor, type="test_refusals_choosy"):
    """Refuses what is called bad."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        if "bad" in str(batch.to_pylist()):
            raise PermanentError("the processor does not like it: bad")
        return [batch]


class ChoosyOutput(Output, type="test_refusals_choosy_output"):
    """Refuses what is called bad."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        class Refusing:
            async def write(self, batches: Sequence[Batch]) -> None:
                if "bad" in str([batch.to_pylist() for batch in batches]):
                    raise PermanentError("the output does not like it: bad")

        yield Refusing()


class Sending(Input, type="test_refusals_sending"):
    """A feed that one good and one bad payload is sent to."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        source = Input.parse({"type": "feed", "name": "refusals"})

        async def send() -> None:
            for payload in (b'{"n": 1}', b"bad"):
                await feed("refusals").send(pa.record_batch({"__value__": pa.array([payload], pa.binary())}))

        async with source.open(context) as reader:
            sending = asyncio.ensure_future(send())
            yield reader
        await asyncio.wait({sending})
        assert isinstance(sending.exception(), PermanentError) or "stopped" in str(sending.exception())


def followed(folder: Path) -> dict[str, Any]:
    return lines(folder / "in.json", [{"n": 1}, "bad"], follow=True, codec="json")


INPUTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "followed file": followed,
    "read by position": lambda folder: {"type": "test_refusals_idle", "kind": "positions", "codec": "json"},
    "broker": lambda folder: {"type": "test_refusals_idle", "kind": "broker", "codec": "json"},
    "queue": lambda folder: {"type": "test_refusals_idle", "kind": "queue", "codec": "json"},
    "feed": lambda folder: {"type": "test_refusals_sending", "codec": "json"},
}
WAYS: dict[str, dict[str, Any]] = {
    "nothing between": {},
    "a buffer": {"buffer": {"type": "memory", "capacity": 1}},
    "a batch": {"pipeline": [{"type": "batch", "count": 1}]},
    "the log": {"durability": {}},
    "the log and a batch": {"durability": {}, "pipeline": [{"type": "batch", "count": 1}]},
}


async def run_until_failed(folder: Path, caplog: pytest.LogCaptureFixture, **options: Any) -> Engine:
    """Run a stream until it has failed, while its input neither ends nor delivers anything more."""
    memory.clear("out")
    engine = Engine([stream(**options)], data=folder / "data")
    async with asyncio.timeout(60):
        with pytest.raises(Exception, match="bad"), caplog.at_level(logging.ERROR):
            await engine.run()
    status = engine.supervised[0].status()
    assert (status.state, status.is_well) == ("failed", False)
    assert "bad" in str(status.trouble)
    assert "bad" in caplog.text
    return engine


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("source", INPUTS.values(), ids=INPUTS)
async def test_a_payload_that_cannot_be_decoded_fails_the_stream_at_once(
    source: Callable[[Path], dict[str, Any]],
    way: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await run_until_failed(tmp_path, caplog, input=source(tmp_path), **way)


@pytest.mark.parametrize(
    "stage", [{"pipeline": [{"type": "test_refusals_choosy"}]}, {"output": "test_refusals_choosy_output"}]
)
@pytest.mark.parametrize("way", [{}, {"durability": {}}, {"buffer": {"type": "memory", "capacity": 1}}])
async def test_a_row_that_is_refused_later_fails_the_stream_at_once(
    stage: dict[str, Any], way: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = lines(tmp_path / "in.json", [{"n": 1}, {"n": "bad"}], follow=True, codec="json")
    await run_until_failed(tmp_path, caplog, input=source, **way, **stage)


async def test_what_came_before_the_bad_row_is_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = {"type": "test_refusals_idle", "kind": "positions", "codec": "json"}
    await run_until_failed(tmp_path, caplog, input=source)
    assert [row["n"] for row in memory.rows("out")] == [1]


async def test_a_stream_that_fails_again_at_once_is_never_shown_as_well(tmp_path: Path) -> None:
    """Between two restarts it runs for a moment."""
    engine = Engine(
        [stream(input=followed(tmp_path), restart={"attempts": 4, "initial": "20ms", "maximum": "20ms"})],
        data=tmp_path / "data",
    )
    running = asyncio.ensure_future(engine.run())
    async with asyncio.timeout(60):
        await until(lambda: bool(engine.supervised) and engine.supervised[0].restarts > 0)
        while not running.done():
            assert not engine.supervised[0].status().is_well
            await asyncio.sleep(0.001)
    assert isinstance(running.exception(), Exception)


async def test_rows_that_go_to_the_error_output_are_a_warning_and_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = lines(tmp_path / "in.json", [{"n": 1}, "bad", {"n": 2}, "worse"], codec="json")
    engine = Engine([stream(input=source, error_output=ERRORS)], data=tmp_path / "data")
    with caplog.at_level(logging.WARNING):
        await engine.run()
    status = engine.supervised[0].status()
    assert status.is_well
    assert status.note == "rows refused in the last 60 s: 2 by decode"
    assert "1 rows refused, the last by decode" in caplog.text or "2 rows refused, the last by decode" in caplog.text


async def test_a_stream_all_of_whose_rows_are_refused_is_unwell_until_one_is_written(tmp_path: Path) -> None:
    bad = [{"n": "bad"}] * MIN_ALL_REFUSED
    engine = Engine(
        [
            stream(
                input=lines(tmp_path / "in.json", bad, codec="json", follow=True),
                pipeline=["test_refusals_choosy"],
                error_output=ERRORS,
            )
        ],
        data=tmp_path / "data",
    )
    stop = asyncio.Event()
    running = asyncio.ensure_future(engine.run(stop))
    async with asyncio.timeout(60):
        await until(lambda: bool(engine.supervised) and not engine.supervised[0].status().is_well)
        assert f"the last {MIN_ALL_REFUSED} rows were all refused" in str(engine.supervised[0].status().trouble)
        with (tmp_path / "in.json").open("a") as file:
            file.write('{"n": 1}\n')
        await until(lambda: engine.supervised[0].status().is_well)
        stop.set()
        await running


def test_what_ends_in_one_part_says_nothing_of_the_others() -> None:
    condition = Condition("s")
    condition.report("input", "the broker is away")
    condition.report("output", "the database is away")
    condition.clear("output")
    assert condition.trouble == "the broker is away"
    condition.report("output", "the disk is full")
    assert condition.trouble == "input: the broker is away; output: the disk is full"
    condition.clear_all()
    assert condition.trouble is None


def test_a_reason_is_shown_without_the_row_that_a_database_tells_with_it() -> None:
    condition = Condition("s")
    condition.refusals.add("output", MIN_ALL_REFUSED, "violates a constraint\nDETAIL: (secret of a person)")
    assert "secret" not in str(condition.trouble)


def test_many_refused_rows_are_one_line_of_the_log_with_a_rate(caplog: pytest.LogCaptureFixture) -> None:
    clock = StandingClock(1000.0)
    condition = Condition("s", clock=clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            condition.refusals.add("decode", 1, "bad")
            clock.now += 0.011
    assert caplog.messages == [
        "s: 1 rows refused, the last by decode: bad",
        "s: 910 rows refused (90.9 a second), the last by decode: bad",
    ]
    clock.now += 61
    assert condition.note is None
    assert condition.trouble is None
