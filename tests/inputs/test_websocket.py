"""WebSockets: messages of a server and of clients, through lost connections, refusals and back-pressure."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from penstock import Engine, Stream
from penstock.component import Input
from penstock.context import Context
from penstock.errors import ConnectionLost, PermanentError, TransientError
from penstock.outputs import memory
from penstock.testing.contexts import lend_context
from penstock.testing.servers import free_port
from penstock.testing.servers.certificates import make_certificate
from penstock.testing.suites import InputSuite
from penstock.testing.waiting import until


class Source:
    """A server that sends its messages to whoever connects, from where the last connection ended."""

    def __init__(self, count: int = 12, **options: Any) -> None:
        self.messages, self.sent, self.options = [f'{{"n": {n}}}' for n in range(count)], 0, options
        self.breaks_after: int | None = None
        self.connections: list[ServerConnection] = []
        self.received: list[Any] = []
        self.server: Server

    async def handle(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        while self.sent < len(self.messages):
            if self.breaks_after == self.sent:
                self.breaks_after = None
                connection.transport.abort()
                return
            await connection.send(self.messages[self.sent])
            self.sent += 1
        async for message in connection:
            self.received.append(message)

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[str]:
        async with serve(self.handle, "127.0.0.1", port, **self.options) as self.server:
            bound = next(iter(self.server.sockets)).getsockname()[1]
            yield f"{'wss' if self.options.get('ssl') else 'ws'}://127.0.0.1:{bound}/feed"


class TestClient(InputSuite):
    replayable = False
    checkpointed = False
    bounded = False
    limited = False

    @pytest.fixture
    async def component(self) -> AsyncIterator[Input]:
        self.source = Source()
        async with self.source.running() as url:
            yield Input.parse({"type": "websocket", "url": url, "codec": "json", "batch_size": 2, "linger": "0s"})

    def expected(self, component: Input) -> list[Any]:
        self.source.sent = 0
        return [{"n": n} for n in range(12)]

    async def supply(self, component: Input, context: Context) -> None:
        """The server sends by itself, to each connection all."""


class TestServer(InputSuite):
    replayable = False
    checkpointed = False
    bounded = False
    limited = False

    @pytest.fixture
    def component(self) -> Input:
        return Input.parse({"type": "websocket", "address": f"127.0.0.1:{free_port()}", "codec": "json"})

    def expected(self, component: Input) -> list[Any]:
        return [{"n": n} for n in range(12)]

    async def supply(self, component: Any, context: Context) -> None:
        async with connect(f"ws://{component.address}/") as connection:
            for n in range(12):
                await connection.send(f'{{"n": {n}}}')
                await asyncio.sleep(0.002)
            await connection.wait_closed()


@asynccontextmanager
async def connected(port: int, path: str = "/") -> AsyncIterator[ClientConnection]:
    """A client, once the stream listens."""
    while True:
        try:
            async with connect(f"ws://127.0.0.1:{port}{path}") as connection:
                yield connection
                return
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)


async def _rest(connection: ClientConnection) -> AsyncIterator[str | bytes]:
    with suppress(ConnectionClosed):
        while True:
            yield await connection.recv()


def stream(key: str, **source: Any) -> Stream:
    return Stream.model_validate(
        {
            "id": "one",
            "input": {"type": "websocket", "codec": "json", **source},
            "output": {"type": "memory", "key": key},
            "retry": {"initial": "5ms", "maximum": "20ms"},
        }
    )


@asynccontextmanager
async def running(tmp_path: Path, one: Stream) -> AsyncIterator[Engine]:
    memory.clear(one.output.key)  # type: ignore[attr-defined]
    engine, stop = Engine([one], data=tmp_path, state="memory"), asyncio.Event()
    task = asyncio.create_task(engine.run(stop))
    await until(lambda: task.done() or (engine.is_running and engine.supervised[0].state != "created"))
    try:
        yield engine
    finally:
        stop.set()
        await task


async def test_a_lost_connection_is_opened_again(tmp_path: Path) -> None:
    source, port = Source(20), free_port()
    source.breaks_after = 7
    async with running(tmp_path, stream("again", url=f"ws://127.0.0.1:{port}/feed", send=["hello"])) as engine:
        await until(lambda: engine.supervised[0].status().trouble)
        async with source.running(port):
            await until(lambda: source.sent == 20 and len(source.connections) >= 2)
            await until(lambda: memory.rows("again") and memory.rows("again")[-1]["n"] == 19)
            await until(lambda: source.received == ["hello"])
        seen = [row["n"] for row in memory.rows("again")]
        assert seen == sorted(set(seen))
        source.messages.append('{"n": 20}')
        async with source.running(port):  # the server was away for a while
            await until(lambda: memory.rows("again")[-1]["n"] == 20)


async def test_headers_and_credentials_are_sent_and_never_shown(tmp_path: Path) -> None:
    source, seen = Source(1), []

    def check(connection: ServerConnection, request: Any) -> Any:
        seen.append((request.headers["X-Own"], request.headers["Authorization"]))
        return connection.respond(401, "no\n")

    source.options["process_request"] = check
    async with source.running() as url:
        auth = {"type": "bearer", "token": "hidden-token"}
        address = f"{url}?key=hidden-key"
        component = Input.parse({"type": "websocket", "url": address, "headers": {"X-Own": "a"}, "auth": auth})
        async with lend_context(tmp_path) as context:
            with pytest.raises(ConnectionLost, match="401") as raised:
                await component.open(context).__aenter__()
    assert seen == [("a", "Bearer hidden-token")]
    assert "hidden" not in str(raised.value)


async def test_tls_is_verified(tmp_path: Path) -> None:
    made = await asyncio.to_thread(make_certificate, tmp_path)
    context_of_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    await asyncio.to_thread(context_of_server.load_cert_chain, made.certificate, made.key)
    async with Source(1, ssl=context_of_server).running() as url, lend_context(tmp_path) as context:
        with pytest.raises(ConnectionLost, match="certificate"):
            await Input.parse({"type": "websocket", "url": url}).open(context).__aenter__()
        known = Input.parse({"type": "websocket", "url": url, "tls": {"ca": str(made.certificate)}})
        async with known.open(context) as reader:
            assert (await reader.read()).batch.num_rows == 1


async def test_a_server_that_is_silent_is_given_up(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    component = Input.parse({"type": "websocket", "url": f"ws://127.0.0.1:{port}", "timeout": "50ms"})
    async with server, lend_context(tmp_path) as context:
        with pytest.raises(ConnectionLost, match="timed out"):
            await component.open(context).__aenter__()
        await ended.wait()


async def test_an_output_that_waits_makes_the_server_wait(tmp_path: Path) -> None:
    source = Source(0)
    source.messages = ['{"n": "' + os.urandom(50_000).hex() + '"}'] * 400  # what could not be packed
    async with source.running() as url, lend_context(tmp_path) as context:
        component = Input.parse({"type": "websocket", "url": url, "batch_size": 4, "linger": "0s"})
        async with component.open(context) as reader:
            await reader.read()
            before = -1
            while source.sent != before:  # until nothing moves any more
                before = source.sent
                await asyncio.sleep(0.1)
            assert before < 400
            rows = 4
            while rows < 400:
                rows += (await reader.read()).batch.num_rows


async def test_clients_are_told_what_became_of_each_message(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, stream("told", address=f"127.0.0.1:{port}", path="/in", acks=True)):
        async with connected(port, "/in") as connection:
            for message in ('{"n": 1}', b'{"n": 2}', "nonsense", '{"n": 3}'):
                await connection.send(message)
            answers = [json.loads(await connection.recv()) for _ in range(4)]
        assert [list(answer) for answer in answers] == [["accepted"], ["accepted"], ["error"], ["accepted"]]
        assert [row["n"] for row in memory.rows("told")] == [1, 2, 3]


async def test_a_refused_message_closes_its_connection_and_no_other(tmp_path: Path) -> None:
    port = free_port()
    async with (
        running(tmp_path, stream("closed", address=f"127.0.0.1:{port}")),
        connected(port) as good,
        connected(port) as bad,
    ):
        await bad.send("nonsense")
        with pytest.raises(ConnectionClosed) as closed:
            await bad.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        await good.send('{"n": 1}')
        await until(lambda: memory.rows("closed"))


async def test_who_may_not_connect_does_not(tmp_path: Path) -> None:
    port = free_port()
    auth = {"type": "basic", "username": "me", "password": "hidden"}
    component = Input.parse(
        {"type": "websocket", "address": f"127.0.0.1:{port}", "path": "/in", "auth": auth, "origins": ["https://ours"]}
    )
    given = {"Authorization": "Basic bWU6aGlkZGVu"}
    refused: list[tuple[str, dict[str, str], int]] = [
        ("/in", {}, 401),
        ("/in", {"Authorization": "Basic bWU6d3Jvbmc="}, 401),
        ("/other", given, 404),
        ("/in", {**given, "Origin": "https://evil.example"}, 403),
    ]
    async with lend_context(tmp_path) as context, component.open(context):
        for path, headers, status in refused:
            with pytest.raises(InvalidStatus) as raised:
                await connect(f"ws://127.0.0.1:{port}{path}", additional_headers=headers)
            assert raised.value.response.status_code == status
        for more in ({}, {"Origin": "https://ours"}):
            async with connect(f"ws://127.0.0.1:{port}/in", additional_headers={**given, **more}):
                pass


async def test_a_message_that_is_too_long_closes_its_connection(tmp_path: Path) -> None:
    component = Input.parse({"type": "websocket", "address": f"127.0.0.1:{free_port()}", "max_message": 1000})
    address: str = component.address  # type: ignore[attr-defined]
    async with lend_context(tmp_path) as context, component.open(context), connect(f"ws://{address}/") as connection:
        await connection.send("x" * 2000)
        with pytest.raises(ConnectionClosed, match="1009"):
            await connection.recv()


async def test_a_stop_tells_clients_that_nothing_more_is_accepted(tmp_path: Path) -> None:
    component = Input.parse({"type": "websocket", "address": f"127.0.0.1:{free_port()}", "acks": True})
    async with lend_context(tmp_path) as context:
        async with component.open(context):
            connection = await connect(f"ws://{component.address}/")  # type: ignore[attr-defined]
            await connection.send("unread")
        answers = [json.loads(message) async for message in _rest(connection)]
        assert all("error" in answer for answer in answers)
        assert connection.close_code == 1012


async def test_two_cannot_listen_at_one_address(tmp_path: Path) -> None:
    component = Input.parse({"type": "websocket", "address": f"127.0.0.1:{free_port()}"})
    async with lend_context(tmp_path) as context, component.open(context):
        with pytest.raises((ConnectionLost, PermanentError, TransientError), match="cannot listen at"):
            await component.open(context).__aenter__()


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({}, "either `url`"),
        ({"url": "http://x"}, "wss://example"),
        ({"url": "ws://x y"}, "wss://example"),
        ({"url": "ws://x", "address": "127.0.0.1:1"}, "either `url`"),
        ({"url": "ws://x", "acks": True}, "`acks` has no meaning"),
        ({"address": "127.0.0.1:1", "headers": {"A": "b"}}, "`headers` has no meaning"),
        ({"address": "nowhere"}, "host:port"),
        ({"address": "127.0.0.1:1", "tls": {}}, "`certificate` and `key`"),
        ({"url": "ws://x", "headers": {"A": "b\r\nC: d"}}, "control characters"),
        ({"url": "ws://x", "headers": {"authorization": "x"}, "auth": {"type": "bearer", "token": "t"}}, "once"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong):
        Input.parse({"type": "websocket", **options})


def test_the_documented_form_is_taken() -> None:
    options = {"type": "websocket", "url": "ws://localhost:8800/ws", "headers": {"A": "b"}, "timeout": 10}
    assert Input.parse(options).timeout == 10.0  # type: ignore[attr-defined]
