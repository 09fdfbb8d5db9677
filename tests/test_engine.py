"""Several streams in one process: health that tells the truth, metrics, restarts, logs, the Python call."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow as pa
import pytest
from pydantic import PrivateAttr

from penstock import (
    Context,
    Engine,
    Output,
    PenstockError,
    PermanentError,
    Stream,
    TransientError,
    loads,
    run,
    run_sync,
)
from penstock.component import Writer
from penstock.config.configuration import HealthCheck
from penstock.delivery import Batch
from penstock.errors import ConnectionLost
from penstock.inputs.feed import feed
from penstock.observe import logs
from penstock.outputs import memory
from penstock.serving.asgi import Scope
from penstock.stream import Restart
from penstock.testing.servers import free_port
from penstock.testing.waiting import until

DOWN: set[str] = set()


class Switched(Output, type="test_switched"):
    """Fails while its key is in ``DOWN``."""

    key: str

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        yield _Switched(self.key)


class _Switched:
    def __init__(self, key: str) -> None:
        self._key = key

    async def write(self, batches: Sequence[Batch]) -> None:
        if self._key in DOWN:
            raise TransientError("switched off")


def generator(**options: Any) -> dict[str, Any]:
    return {"type": "generate", "context": "{}", "interval": "5ms", **options}


async def get(port: int, path: str, **headers: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as r:
        text = await r.text()
        return r.status, json.loads(text) if text.startswith(("{", "[")) else text


@asynccontextmanager
async def running(tmp_path: Path, *streams: dict[str, Any], **health: Any) -> AsyncIterator[int]:
    port = free_port()
    stop = asyncio.Event()
    engine = Engine(
        [Stream.model_validate({"retry": {"initial": "5ms", "maximum": "10ms"}, **stream}) for stream in streams],
        health_check=HealthCheck(address=f"127.0.0.1:{port}", **health),
        data=tmp_path,
    )
    task = asyncio.create_task(engine.run(stop))
    try:
        starting = ("created", "starting")
        await until(lambda: engine.supervised and all(one.state not in starting for one in engine.supervised))
        yield port
    finally:
        stop.set()
        await asyncio.wait({task})
        if task.exception() is not None and not isinstance(task.exception(), PenstockError):
            raise task.exception()  # type: ignore[misc]


async def test_r11_health_follows_the_streams(tmp_path: Path) -> None:
    stream = {"id": "one", "input": generator(), "output": {"type": "test_switched", "key": "one"}}
    async with running(tmp_path, stream) as port:

        async def health(status: int) -> Any:
            found, body = await get(port, "/health")
            return body if found == status else None

        await until(lambda: health(200))
        DOWN.add("one")
        assert (await until(lambda: health(503)))["streams"]["one"]["trouble"] == "switched off"
        assert (await get(port, "/liveness"))[0] == 200
        DOWN.clear()
        await until(lambda: health(200))


async def test_a_failed_stream_makes_the_process_unwell_and_leaves_the_others_alone(tmp_path: Path) -> None:
    bad = {
        "id": "bad",
        "input": {"type": "memory", "messages": ["nonsense"], "codec": "json"},
        "output": "drop",
        "restart": {"attempts": 0},
    }
    good = {"id": "good", "input": generator(), "output": "drop"}
    async with running(tmp_path, bad, good) as port:

        async def failed() -> Any:
            _, body = await get(port, "/health")
            return body if body["streams"]["bad"]["state"] == "failed" else None

        body = await until(failed)
        assert (await get(port, "/health"))[0] == 503
        assert body["streams"]["good"] == {"state": "running", "trouble": None}
        assert (await get(port, "/readiness"))[0] == 503


async def test_a_failing_stream_is_started_again(tmp_path: Path) -> None:
    stream = {
        "id": "again",
        "input": {"type": "memory", "messages": ["nonsense"], "codec": "json"},
        "output": "drop",
        "restart": {"attempts": 3, "initial": "1ms"},
    }
    engine = Engine([Stream.model_validate(stream)], data=tmp_path)
    with pytest.raises(PenstockError, match="again: decode"):
        await engine.run()
    assert engine.supervised[0].restarts == 3


async def test_metrics_have_types_and_count(tmp_path: Path) -> None:
    stream = {"id": "counted", "input": generator(count=7, interval="1ms"), "output": "drop"}
    async with running(tmp_path, stream, {"id": "other", "input": generator(), "output": "drop"}) as port:

        async def counted() -> str | None:
            _, text = await get(port, "/metrics")
            return text if 'penstock_latency_seconds_count{stream="counted"} 7.0' in text else None

        text = await until(counted)
        assert "# TYPE penstock_rows_in_total counter" in text
        assert 'penstock_rows_in_total{stream="counted"} 7.0' in text
        assert 'penstock_rows_out_total{stream="counted"} 7.0' in text


async def test_status_pages_ask_for_the_token(tmp_path: Path) -> None:
    stream = {"id": "one", "input": generator(), "output": "drop"}
    async with running(tmp_path, stream, api_token="hush") as port:
        assert (await get(port, "/api/v1/streams"))[0] == 401
        assert (await get(port, "/api/v1/streams", Authorization="Bearer nonsense"))[0] == 401
        status, body = await get(port, "/api/v1/streams", Authorization="Bearer hush")
        one = body["items"][0]
        assert (status, body["total"], one["id"], one["state"]) == (200, 1, "one", "running")
        assert (await get(port, "/api/v1/streams/none", Authorization="Bearer hush"))[0] == 404


async def test_pages_and_an_input_share_an_address(tmp_path: Path) -> None:
    port = free_port()
    text = f"""
    health_check: {{address: "127.0.0.1:{port}"}}
    data: {tmp_path}
    streams:
      - input: {{type: http, address: "127.0.0.1:{port}", path: /rows, codec: json}}
        output: {{type: memory, key: shared}}
    """
    memory.clear("shared")
    stop = asyncio.Event()
    task = asyncio.create_task(Engine.of(loads(text)).run(stop))
    async with aiohttp.ClientSession() as session:

        async def posted() -> bool:
            try:
                async with session.post(f"http://127.0.0.1:{port}/rows", json={"n": 1}) as answer:
                    assert answer.status in (200, 404, 503)
                    return answer.status == 200
            except aiohttp.ClientConnectorError:
                return False

        await until(posted)
        assert (await get(port, "/health"))[0] == 200
    stop.set()
    await task
    assert memory.rows("shared") == [{"n": 1}]


async def test_run_and_run_sync(tmp_path: Path) -> None:
    memory.clear("api")
    stream = Stream.model_validate(
        {
            "input": {"type": "memory", "messages": ['{"n": 1}'], "codec": "json"},
            "output": {"type": "memory", "key": "api"},
        }
    )
    await run(stream, data=tmp_path)
    await asyncio.to_thread(run_sync, stream, data=tmp_path)
    run_sync(stream, data=tmp_path)  # inside a running loop, as in a notebook
    assert memory.rows("api") == [{"n": 1}] * 3


async def test_positions_may_be_kept_between_runs(tmp_path: Path) -> None:
    memory.clear("kept")
    stream = Stream.model_validate(
        {
            "input": {"type": "memory", "messages": ['{"n": 1}'], "codec": "json"},
            "output": {"type": "memory", "key": "kept"},
        }
    )
    for _ in range(2):
        await run(stream, state=str(tmp_path / "state.db"), data=tmp_path)
    assert memory.rows("kept") == [{"n": 1}]


def test_logs_are_json_with_the_stream(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "penstock.log"
    logs.configure("info", "json", path)
    try:
        logs.stream_name.set("one")
        logging.getLogger("penstock").info("hello %s", "you")
        logging.getLogger("penstock").debug("not this")
        (line,) = path.read_text().splitlines()
        found = json.loads(line)
        assert (found["event"], found["stream"], found["level"]) == ("hello you", "one", "info")
        assert "timestamp" in found
    finally:
        logs.stream_name.set(None)
        for handler in logging.getLogger("penstock").handlers:
            handler.close()
        logging.getLogger("penstock").handlers = []
        logging.getLogger("penstock").propagate = True


class Answering:
    """A service that goes on to answer for a moment when it is told to end, and needs a stream for that."""

    name = "answering"

    def __init__(self) -> None:
        self.answered = 0

    def served(self) -> Sequence[tuple[str, str]]:
        return ()

    async def serve(self, context: Context, stop: asyncio.Event) -> None:
        await stop.wait()
        for number in range(5):
            await asyncio.sleep(0.02)
            await feed("answers").send(pa.RecordBatch.from_pydict({"n": [number]}), timeout=5)
            self.answered += 1


async def test_services_end_before_the_streams_they_need(tmp_path: Path) -> None:
    stream = {"id": "one", "input": {"type": "feed", "name": "answers"}, "output": {"type": "memory", "name": "ends"}}
    service, stop = Answering(), asyncio.Event()
    engine = Engine([Stream.model_validate(stream)], [service], data=tmp_path)
    task = asyncio.create_task(engine.run(stop))
    while not feed("answers").is_open:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.wait_for(task, 60)
    assert service.answered == 5


class Breaking:
    """A service that fails its first ``times`` starts, some time after the streams are open."""

    name = "breaking"

    def __init__(self, times: int, error: type[Exception] = RuntimeError) -> None:
        self.left, self.error = times, error
        self.up = asyncio.Event()

    def served(self) -> Sequence[tuple[str, str]]:
        return ()

    async def serve(self, context: Context, stop: asyncio.Event) -> None:
        while not memory.rows("beside"):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        if self.left:
            self.left -= 1
            raise self.error("the API broke")
        self.up.set()
        await stop.wait()


def beside() -> Stream:
    memory.clear("beside")
    return Stream.model_validate({"id": "one", "input": generator(), "output": {"type": "memory", "key": "beside"}})


async def test_a_service_that_fails_for_good_drains_the_streams(tmp_path: Path) -> None:
    engine = Engine(
        [beside()], [Breaking(100)], data=tmp_path, restart=Restart.model_validate({"attempts": 2, "initial": "1ms"})
    )
    with pytest.raises(PenstockError, match=r"^breaking: the API broke$"):
        await asyncio.wait_for(engine.run(), 60)
    assert [(one.name, one.state, one.restarts) for one in engine.services] == [("breaking", "failed", 2)]
    (stream,) = engine.supervised
    assert (stream.state, stream.failure) == ("stopped", None)
    assert len(memory.rows("beside")) == stream.metrics.rows_in, "the stream was cut off, not drained"


@pytest.mark.parametrize("error", [ConnectionLost, TransientError])
async def test_a_service_whose_server_is_away_is_started_until_it_is_back(
    tmp_path: Path, error: type[Exception]
) -> None:
    """The streams beside it go on meanwhile, however often it was tried."""
    service, stop = Breaking(9, error), asyncio.Event()
    restart = Restart.model_validate({"attempts": 2, "initial": "1ms", "maximum": "2ms"})
    engine = Engine([beside()], [service], data=tmp_path, restart=restart)
    task = asyncio.create_task(engine.run(stop))
    await asyncio.wait_for(service.up.wait(), 60)
    assert [(one.state, one.restarts) for one in engine.services] == [("running", 9)]
    assert [(one.state, one.restarts) for one in engine.supervised] == [("running", 0)]
    stop.set()
    await asyncio.wait_for(task, 60)


async def test_a_service_that_fails_is_started_again_alone(tmp_path: Path) -> None:
    service, stop = Breaking(3), asyncio.Event()
    engine = Engine([beside()], [service], data=tmp_path, restart=Restart.model_validate({"initial": "1ms"}))
    task = asyncio.create_task(engine.run(stop))
    await asyncio.wait_for(service.up.wait(), 60)
    assert [(one.state, one.restarts) for one in engine.services] == [("running", 3)]
    assert [(one.state, one.restarts) for one in engine.supervised] == [("running", 0)]
    stop.set()
    await asyncio.wait_for(task, 60)


async def test_health_and_readiness_tell_of_services(tmp_path: Path) -> None:
    port, stop = free_port(), asyncio.Event()
    engine = Engine(
        [beside()],
        [Breaking(100)],
        data=tmp_path,
        health_check=HealthCheck(address=f"127.0.0.1:{port}"),
        restart=Restart.model_validate({"initial": "1m"}),
    )
    task = asyncio.create_task(engine.run(stop))
    while not (engine.services and engine.services[0].state == "restarting"):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.005)
    status, body = await get(port, "/health")
    assert status == 503
    assert body["services"] == {"breaking": {"state": "restarting", "trouble": "the API broke"}}
    assert body["streams"]["one"] == {"state": "running", "trouble": None}
    assert (await get(port, "/readiness"))[0] == 503
    stop.set()
    await asyncio.wait_for(task, 60)


class Mounting:
    """A service that serves one path."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self._address = name, address

    def served(self) -> Sequence[tuple[str, str]]:
        return [(self._address, "/api/v1/*")]

    async def serve(self, context: Context, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup(), context.listeners.mount(self._address, "/api/v1/*", nothing):
            await stop.wait()


async def nothing(scope: Scope, receive: Any, send: Any) -> None: ...


async def test_two_services_at_one_path_are_one_clear_error(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    engine = Engine([beside()], [Mounting("first", address), Mounting("second", address)], data=tmp_path)
    with pytest.raises(PenstockError, match=r"^second: 127.*/api/v1/\* is served already, as /api/v1/\*$"):
        await asyncio.wait_for(engine.run(), 60)
    assert engine.supervised[0].state == "stopped"


class BreakingOutput(Output, type="test_breaking_after_a_while"):
    """Work for longer than ``restart.maximum`` and break then, as often as ``times`` says."""

    times: int
    _opened: list[None] = PrivateAttr(default_factory=list)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        self._opened.append(None)
        await asyncio.sleep(0.01)
        if len(self._opened) <= self.times:
            raise PermanentError("it broke")
        async with Output.parse({"type": "memory", "key": "breaking"}).open(context) as writer:
            yield writer


async def test_a_stream_that_ran_for_long_has_all_its_attempts_again(tmp_path: Path) -> None:
    """Five failures in a year are not five in a row."""
    output = BreakingOutput(times=6)
    restart = {"attempts": 2, "initial": "1ms", "maximum": "2ms"}
    stream = Stream.model_validate(
        {"input": {"type": "memory", "messages": ["x"]}, "output": output, "restart": restart}
    )
    engine = Engine([stream], data=tmp_path)
    await engine.run()
    assert engine.supervised[0].restarts == 6
