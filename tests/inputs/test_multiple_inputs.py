"""Several inputs in one stream: each is read, lost, opened again and ended by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import PrivateAttr, ValidationError

from penstock import Context, Engine, Input, Stream
from penstock.checkpoint import Checkpoint
from penstock.component import Output, Reader, Writer
from penstock.config.configuration import loads
from penstock.delivery import Batch, Delivery
from penstock.errors import ConfigError, ConnectionLost, EndOfInput, PermanentError
from penstock.inputs.multiple_inputs import MultipleInputs
from penstock.metadata import Origin, payloads
from penstock.outputs import memory
from penstock.state.memory import MemoryStore
from penstock.testing.clock import jumping
from penstock.testing.suites import InputSuite
from penstock.testing.waiting import until

FAST = {"initial": "1ms", "maximum": "2ms"}


def messages(name: str, numbers: Sequence[int], **options: Any) -> dict[str, Any]:
    return {"name": name, "type": "memory", "messages": [{"n": n} for n in numbers], "codec": "json", **options}


class TestMultipleInputs(InputSuite):
    partitioned = True
    ordered = False
    limited = False  # the limit is for each of its inputs

    @pytest.fixture
    def component(self) -> Input:
        children = [messages("left", range(6)), messages("right", range(10, 13))]
        return MultipleInputs.parse({"type": "multiple_inputs", "inputs": children})

    async def test_tells_where_rows_came_from(self, component: Input, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as reader:
            delivery = await self.soon(reader.read())
            assert delivery.origin is not None
            assert delivery.origin.source in ("left", "right")


class Script(Input, type="test_script"):
    """Deliver what a script says, one step for each read: a number, an error to raise, or an event to wait for."""

    key: str

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        script = SCRIPTS[self.key]
        script.opened += 1
        script.open += 1
        script.most_open = max(script.most_open, script.open)
        try:
            yield _ScriptReader(script, await context.checkpoint())
        finally:
            script.open -= 1


class Steps:
    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.opened = self.open = self.most_open = self.read = 0


class _ScriptReader:
    def __init__(self, script: Steps, checkpoint: Checkpoint) -> None:
        self._script, self._checkpoint = script, checkpoint

    async def read(self) -> Delivery:
        while self._script.steps:
            step = self._script.steps[0]
            if isinstance(step, asyncio.Event):
                await step.wait()
                self._script.steps.pop(0)
                continue
            self._script.steps.pop(0)
            if isinstance(step, Exception):
                raise step
            self._script.read += 1
            batch = pa.record_batch({"n": [step]})
            return await self._checkpoint.deliver(batch, self._script.read, Origin("script"))
        raise EndOfInput


SCRIPTS: dict[str, Steps] = {}


def stream(inputs: list[Any], **options: Any) -> Stream:
    memory.clear("merged")
    return Stream.model_validate(
        {
            "id": "merged",
            "input": {"type": "multiple_inputs", "inputs": inputs},
            "output": {"type": "memory", "key": "merged"},
            "retry": FAST,
            "restart": {"attempts": 0},
            **options,
        }
    )


def numbers() -> list[int]:
    return [row["n"] for row in memory.rows("merged")]


async def test_the_end_of_one_input_ends_no_other(tmp_path: Path) -> None:
    gate = asyncio.Event()
    SCRIPTS["slow"] = Steps(gate, 3, 4)
    one = stream([messages("quick", [1, 2]), Script(key="slow", name="slow")])
    running = asyncio.create_task(Engine([one], data=tmp_path).run())
    await until(lambda: sorted(numbers()) == [1, 2])
    await asyncio.sleep(0)
    assert not running.done()
    gate.set()
    await running
    assert sorted(numbers()) == [1, 2, 3, 4]


async def test_an_outage_of_one_input_stops_no_other_and_is_shown(tmp_path: Path) -> None:
    gate, going_on = asyncio.Event(), asyncio.Event()
    SCRIPTS["lost"] = Steps(1, *[ConnectionLost("the cable was pulled")] * 3, gate, 2)
    SCRIPTS["well"] = Steps(10, going_on, 11)
    engine = Engine([stream([Script(key="lost", name="left"), Script(key="well", name="right")])], data=tmp_path)
    running = asyncio.create_task(engine.run())
    await until(lambda: SCRIPTS["lost"].opened == 4)
    trouble = engine.supervised[0].metrics.condition.trouble
    assert trouble == "the cable was pulled"
    going_on.set()
    await until(lambda: sorted(numbers()) == [1, 10, 11])
    gate.set()
    await running
    assert sorted(numbers()) == [1, 2, 10, 11]
    assert SCRIPTS["well"].opened == 1


async def test_no_input_has_two_readers_after_it_was_opened_again(tmp_path: Path) -> None:
    for key in ("left", "right"):
        steps = [step for n in range(20) for step in (n, ConnectionLost("again"))]
        SCRIPTS[key] = Steps(*steps)
    await Engine([stream([Script(key="left", name="left"), Script(key="right", name="right")])], data=tmp_path).run()
    assert sorted(numbers()) == sorted([*range(20), *range(20)])
    assert [(one.opened, one.most_open) for one in SCRIPTS.values() if one.opened > 5] == [(21, 1), (21, 1)]


class Stuck(Output, type="test_stuck"):
    """Write nothing until the gate is opened."""

    _gate: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        yield self

    async def write(self, batches: Sequence[Batch]) -> None:
        await self._gate.wait()


@jumping
async def test_what_waits_is_bounded_and_inputs_take_turns(tmp_path: Path) -> None:
    for key in ("busy", "busier"):
        SCRIPTS[key] = Steps(*range(10_000))
    output = Stuck()
    one = stream([Script(key="busy", name="a"), Script(key="busier", name="b")], output=output, max_in_flight=4)
    engine = Engine([one], data=tmp_path)
    stop = asyncio.Event()
    running = asyncio.create_task(engine.run(stop))
    await asyncio.sleep(3600)
    read = SCRIPTS["busy"].read, SCRIPTS["busier"].read
    assert sum(read) < 20
    output._gate.set()
    await until(lambda: SCRIPTS["busy"].read > 1000)
    assert abs(SCRIPTS["busy"].read - SCRIPTS["busier"].read) < 20
    stop.set()
    await running


async def test_each_row_says_which_input_it_came_from(tmp_path: Path) -> None:
    query = {"type": "sql", "query": "SELECT n, __meta_source AS source FROM flow"}
    unnamed = {"type": "memory", "messages": [{"n": 3}], "codec": "json"}
    await Engine(
        [stream([messages("left", [1]), messages("right", [2]), unnamed], pipeline=[query])], data=tmp_path
    ).run()
    found = {row["n"]: row["source"] for row in memory.rows("merged")}
    assert found == {1: "left", 2: "right", 3: "memory"}


@pytest.mark.parametrize("logged", [False, True], ids=["replayed", "logged"])
async def test_each_input_has_a_codec_of_its_own_and_the_outer_one_is_for_the_others(
    tmp_path: Path, logged: bool
) -> None:
    inputs = [
        {"name": "json", "type": "memory", "messages": [{"n": 1}], "codec": "json"},
        {"name": "csv", "type": "memory", "messages": ["n\n2\n"], "codec": {"type": "csv"}},
        {"name": "none", "type": "memory", "messages": [{"n": 3}]},
    ]
    options: dict[str, Any] = {"durability": {"path": str(tmp_path / "wal")}} if logged else {}
    one = stream([], input={"type": "multiple_inputs", "inputs": inputs, "codec": "json"}, **options)
    await Engine([one], data=tmp_path).run()
    assert sorted(int(n) for n in numbers()) == [1, 2, 3]


async def test_positions_are_kept_for_each_name_in_whatever_order(tmp_path: Path) -> None:
    await Engine([stream([messages("a", [1, 2]), messages("b", [3])])], data=tmp_path).run()
    assert sorted(numbers()) == [1, 2, 3]
    await Engine([stream([messages("c", [9]), messages("b", [3, 4]), messages("a", [1, 2, 5])])], data=tmp_path).run()
    assert sorted(numbers()) == [4, 5, 9]


async def test_a_refused_row_of_an_input_that_tells_nobody_stops_the_stream(tmp_path: Path) -> None:
    refuse = {"type": "python", "function": "f", "script": "def f(batch):\n    raise ValueError('no')\n"}
    one = stream([messages("a", [1]), messages("b", [2])], pipeline=[refuse])
    with pytest.raises(Exception, match="no"):
        await Engine([one], data=tmp_path).run()


class Pushed(Input, type="test_pushed"):
    """Deliver one payload whose sender is told what becomes of it, then wait until it is told to end."""

    _told: list[Exception | None] = PrivateAttr(default_factory=list)
    _end: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)

    def tells_sender(self) -> bool:
        return True

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        yield _PushedReader(self)


class _PushedReader:
    def __init__(self, pushed: Pushed) -> None:
        self._pushed, self._read = pushed, 0

    async def read(self) -> Delivery:
        self._read += 1
        if self._read > 1:
            await self._pushed._end.wait()
            raise EndOfInput

        async def settle(error: Exception | None) -> None:
            self._pushed._told.append(error)

        return Delivery.settled_by(payloads([b"{"]), settle, Origin("pushed"))


async def test_a_refused_row_of_a_sender_who_is_told_stops_nobody(tmp_path: Path) -> None:
    pushed = Pushed(name="posted", codec="json")  # type: ignore[arg-type]
    gate = asyncio.Event()
    SCRIPTS["after"] = Steps(gate, 1)
    running = asyncio.create_task(Engine([stream([pushed, Script(key="after", name="file")])], data=tmp_path).run())
    await until(lambda: pushed._told)
    assert isinstance(pushed._told[0], PermanentError)
    gate.set()
    await until(lambda: numbers() == [1])
    pushed._end.set()
    await running


def test_names_are_unique_and_not_empty() -> None:
    for names, message in ((("a", "a"), "called 'a'"), (("", "b"), "empty `name`")):
        with pytest.raises(ValidationError, match=message):
            MultipleInputs.parse({"type": "multiple_inputs", "inputs": [messages(name, [1]) for name in names]})
    with pytest.raises(ValidationError):
        MultipleInputs.parse({"type": "multiple_inputs", "inputs": []})


def test_inputs_without_names_have_positions_of_their_own() -> None:
    twice = [
        {"type": "memory", "messages": [1]},
        {"type": "memory", "messages": [2]},
        {"type": "memory", "messages": [1]},
    ]
    found = MultipleInputs.parse({"type": "multiple_inputs", "inputs": twice})
    turned = MultipleInputs.parse({"type": "multiple_inputs", "inputs": twice[::-1]})
    assert len(found.children()) == 3
    assert set(found.children()) == set(turned.children())


def test_two_inputs_at_one_path_are_refused_with_their_place() -> None:
    post = {"type": "http", "address": "127.0.0.1:8090", "path": "/rows"}
    text = json.dumps({"streams": [{"input": {"type": "multiple_inputs", "inputs": [post, post]}, "output": "drop"}]})
    with pytest.raises(ConfigError, match=r"two inputs listen at 127\.0\.0\.1:8090/rows"):
        loads(text, ".json")


def test_a_wrong_option_of_an_input_is_told_with_its_place() -> None:
    text = "streams:\n  - input:\n      type: multiple_inputs\n      inputs:\n"
    text += "        - {type: generate, contxt: 1}\n    output: drop\n"
    with pytest.raises(ConfigError, match="did you mean 'context'") as raised:
        loads(text)
    assert raised.value.line == 5


@pytest.mark.slow
@given(
    left=st.lists(st.sampled_from(["row", "lost"]), max_size=12),
    right=st.lists(st.sampled_from(["row", "lost"]), max_size=12),
)
def test_whatever_is_lost_every_row_comes_once_and_in_order(
    left: list[str], right: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected: dict[str, list[int]] = {}
    for name, plan in (("left", left), ("right", right)):
        rows = iter(range(100))
        SCRIPTS[name] = Steps(*[next(rows) if step == "row" else ConnectionLost("again") for step in plan])
        expected[name] = list(range(plan.count("row")))
    query = {"type": "sql", "query": "SELECT n, __meta_source AS source FROM flow"}
    inputs = [Script(key=name, name=name) for name in expected]

    async def run() -> None:
        await Engine([stream(inputs, pipeline=[query])], state="memory", data=tmp_path_factory.mktemp("data")).run()

    asyncio.run(run())
    for name, rows_of_it in expected.items():
        assert [row["n"] for row in memory.rows("merged") if row["source"] == name] == rows_of_it


async def test_a_restart_reads_of_each_what_was_not_written(tmp_path: Path) -> None:
    store = MemoryStore()
    component = MultipleInputs.parse(
        {"type": "multiple_inputs", "inputs": [messages("left", range(5)), messages("right", range(5, 10))]}
    )
    suite = TestMultipleInputs()
    async with suite.opened(component, tmp_path, store) as reader:
        held = [await reader.read() for _ in range(10)]
        for delivery in held[:4]:
            await delivery.ack()
    async with suite.opened(component, tmp_path, store) as reader:
        rest = await suite.read_all(component, reader, None, ack=True)
    assert {json.dumps(row) for delivery in held for row in suite.rows(component, delivery)} >= {
        json.dumps(row) for row in rest
    }
    assert len(rest) >= 6
