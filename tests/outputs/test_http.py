import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from aiohttp import web
from pydantic import ValidationError

from penstock import Engine, Stream
from penstock.component import Output, Writer
from penstock.delivery import Batch
from penstock.errors import ConnectionLost, PermanentError, RowsRejected, TransientError
from penstock.outputs import memory
from penstock.outputs.http import Http
from penstock.testing.batches import sample
from penstock.testing.contexts import lend_context
from penstock.testing.suites.outputs import OutputSuite

Respond = Callable[[web.Request, bytes], Awaitable[web.Response] | web.Response]


class Receiver:
    """A server that keeps what it accepts."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.requests: list[web.Request] = []
        self.url = ""
        self.running = self.most_running = 0
        self.respond: Respond = lambda request, body: web.Response()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request, web.BaseRequest)
        body = await request.read()
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            response = self.respond(request, body)  # type: ignore[arg-type]
            if not isinstance(response, web.Response):
                response = await response
        finally:
            self.running -= 1
        self.requests.append(request)  # type: ignore[arg-type]
        if response.status < 300:
            self.bodies.append(body)
        return response

    def rows(self) -> list[Any]:
        return [json.loads(body) for body in self.bodies]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    runner = web.ServerRunner(web.Server(receiver.handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@asynccontextmanager
async def writing(directory: Path, receiver: Receiver, **options: Any) -> AsyncIterator[Writer]:
    component = Output.parse({"type": "http", "url": receiver.url, **options})
    async with lend_context(directory) as context, component.open(context) as writer:
        yield writer


def raw(*payloads: bytes | None) -> Batch:
    return pa.record_batch({"__value__": pa.array(payloads, pa.binary())})


async def test_each_row_is_a_request(receiver: Receiver, tmp_path: Path) -> None:
    async with writing(tmp_path, receiver, concurrency=1) as writer:
        await writer.write([pa.record_batch({"a": [1, 2]}), raw(b"x", None, b"y")])
    assert receiver.bodies == [b'{"a":1}', b'{"a":2}', b"x", b"y"]
    assert {request.headers["Content-Type"] for request in receiver.requests} == {"application/json"}
    assert {request.method for request in receiver.requests} == {"POST"}


@pytest.mark.parametrize(
    ("format", "kind", "bodies"),
    [
        ("ndjson", "application/x-ndjson", [b'{"a":1}\n{"a":2}\n', b'{"a":3}\n']),
        ("array", "application/json", [b'[{"a":1},{"a":2}]', b'[{"a":3}]']),
    ],
)
async def test_many_rows_are_one_request(
    receiver: Receiver, tmp_path: Path, format: str, kind: str, bodies: list[bytes]
) -> None:
    async with writing(tmp_path, receiver, batch={"rows": 2, "format": format}, concurrency=1) as writer:
        await writer.write([pa.record_batch({"a": [1]}), pa.record_batch({"a": [2, 3]})])
    assert receiver.bodies == bodies
    assert {request.headers["Content-Type"] for request in receiver.requests} == {kind}


async def test_r9_the_body_field_is_what_is_sent(receiver: Receiver, tmp_path: Path) -> None:
    batch = pa.record_batch({"text": ["one", None, "three"], "number": [1, 2, 3]})
    async with writing(tmp_path, receiver, body_field="text", concurrency=1) as writer:
        await writer.write([batch])
    async with writing(tmp_path, receiver, body_field="number", concurrency=1) as writer:
        await writer.write([batch])
    assert receiver.bodies == [b"one", b"three", b"1", b"2", b"3"]
    async with writing(tmp_path, receiver, body_field="texts") as writer:
        with pytest.raises(PermanentError, match="there is no column 'texts'; the columns are text, number"):
            await writer.write([batch])


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_requests_without_a_body(receiver: Receiver, tmp_path: Path, method: str) -> None:
    async with writing(tmp_path, receiver, method=method) as writer:
        await writer.write([pa.record_batch({"a": [1, 2]})])
    assert receiver.bodies == [b"", b""]
    assert {request.method for request in receiver.requests} == {method}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_other_methods_have_a_body(receiver: Receiver, tmp_path: Path, method: str) -> None:
    async with writing(tmp_path, receiver, method=method, headers={"content-type": "text/x"}) as writer:
        await writer.write([raw(b"1")])
    assert (receiver.bodies, receiver.requests[0].headers["Content-Type"]) == ([b"1"], "text/x")


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ({"type": "bearer", "token": "t0ken"}, "Bearer t0ken"),
        ({"Bearer": {"token": "t0ken"}}, "Bearer t0ken"),
        ({"type": "basic", "username": "me", "password": "p:ß"}, "Basic bWU6cDrDnw=="),
        ({"Basic": {"username": "me", "password": "p:ß"}}, "Basic bWU6cDrDnw=="),
    ],
)
async def test_r9_credentials_can_be_written_in_both_forms(
    receiver: Receiver, tmp_path: Path, auth: dict, header: str
) -> None:
    async with writing(tmp_path, receiver, auth=auth, headers={"X-A": "b"}) as writer:
        await writer.write([raw(b"1")])
    (request,) = receiver.requests
    assert request.headers.getall("Authorization") == [header]
    assert request.headers["X-A"] == "b"


async def test_no_more_than_so_many_requests_at_once(receiver: Receiver, tmp_path: Path) -> None:
    async def slow(request: web.Request, body: bytes) -> web.Response:
        await asyncio.sleep(0.02)
        return web.Response()

    receiver.respond = slow
    async with writing(tmp_path, receiver, concurrency=3) as writer:
        await writer.write([pa.record_batch({"a": range(12)})])
    assert receiver.most_running == 3
    assert sorted(row["a"] for row in receiver.rows()) == list(range(12))


async def test_connections_are_used_again(receiver: Receiver, tmp_path: Path) -> None:
    receiver.respond = lambda request, body: web.Response(text="x" * 100)
    async with writing(tmp_path, receiver, concurrency=1) as writer:
        await writer.write([pa.record_batch({"a": range(5)})])
    assert len({request.get_extra_info("peername") for request in receiver.requests}) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_transient(receiver: Receiver, tmp_path: Path, status: int) -> None:
    receiver.respond = lambda request, body: web.Response(status=status, text="busy", headers={"Retry-After": "30"})
    async with writing(tmp_path, receiver) as writer:
        with pytest.raises(TransientError, match=f"answered {status}: busy .to be tried again after 30 s"):
            await writer.write([raw(b"1")])


@pytest.mark.parametrize("status", [301, 400, 403, 404, 413, 422])
async def test_what_will_not_pass_rejects_the_row(receiver: Receiver, tmp_path: Path, status: int) -> None:
    receiver.respond = lambda request, body: web.Response(
        status=status if body == b"2" else 201, text="no such \x1b[31m field\n", headers={"Location": "http://x/"}
    )
    async with writing(tmp_path, receiver) as writer:
        with pytest.raises(RowsRejected) as rejected:
            await writer.write([raw(b"1", None, b"2", b"3")])
        assert list(rejected.value.reasons) == [2]
        assert str(status) in rejected.value.reasons[2]
        assert "\x1b" not in rejected.value.reasons[2]
        await writer.write([raw(b"1", None)])
        await writer.write([raw(b"3")])
    assert sorted(receiver.bodies) == [b"1", b"3"]


async def test_rows_that_arrived_are_not_sent_again_when_the_write_is_repeated(
    receiver: Receiver, tmp_path: Path
) -> None:
    failing = True
    receiver.respond = lambda request, body: web.Response(status=503 if failing and body in (b"b", b"d") else 200)
    batches = [raw(b"a", b"a", b"b"), raw(b"c", b"d", b"a")]
    async with writing(tmp_path, receiver, concurrency=2) as writer:
        for _ in range(3):
            with pytest.raises(TransientError):
                await writer.write(batches)
        failing = False
        await writer.write(batches)
        assert sorted(receiver.bodies) == [b"a", b"a", b"a", b"b", b"c", b"d"]
        await writer.write(batches)
        assert len(receiver.bodies) == 12


async def test_equal_rows_of_a_later_write_are_sent(receiver: Receiver, tmp_path: Path) -> None:
    receiver.respond = lambda request, body: web.Response(status=400 if body == b"bad" else 200)
    async with writing(tmp_path, receiver) as writer:
        with pytest.raises(RowsRejected):
            await writer.write([raw(b"a", b"bad")])
        await writer.write([raw(b"a")])
        await writer.write([raw(b"a")])
        await writer.write([raw(b"a", b"b")])
    assert sorted(receiver.bodies) == [b"a", b"a", b"a", b"b"]


async def test_a_refused_request_of_many_rows_can_be_halved(receiver: Receiver, tmp_path: Path) -> None:
    def respond(request: web.Request, body: bytes) -> web.Response:
        return web.Response(status=422 if b"bad" in body else 200)

    receiver.respond = respond
    rows = [b"1", b"2", b"3", b"bad", b"5", b"6"]
    async with writing(tmp_path, receiver, batch={"rows": 2}) as writer:

        async def narrow(rows: list[bytes]) -> list[bytes]:
            try:
                await writer.write([raw(*rows)])
            except PermanentError:
                if len(rows) == 1:
                    return rows
                middle = len(rows) // 2
                return await narrow(rows[:middle]) + await narrow(rows[middle:])
            return []

        assert await narrow(rows) == [b"bad"]
    assert sorted(b"".join(receiver.bodies).split()) == [b"1", b"2", b"3", b"5", b"6"]


async def test_the_writer_slept_and_tried_again_by_itself(receiver: Receiver, tmp_path: Path) -> None:
    receiver.respond = lambda request, body: web.Response(status=503, headers={"Retry-After": "3"})
    async with writing(tmp_path, receiver, retry_count=5) as writer:
        with pytest.raises(TransientError) as raised:
            await writer.write([raw(b"1")])
    assert (len(receiver.requests), raised.value.after) == (1, 3.0)


async def test_a_stream_tries_again_as_often_as_retry_count_says_and_refuses_the_row(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.respond = lambda request, body: web.Response(status=500 if body == b'{"n":1}' else 200)
    memory.clear("given up")
    stream = _stream(receiver, '{"n": 1}\n{"n": 2}', retry_count=2, concurrency=1)
    errors = Output.parse({"type": "memory", "key": "given up"})
    await Engine([stream.model_copy(update={"error_output": errors})], data=tmp_path).run()
    assert receiver.bodies == [b'{"n":2}']
    assert len(receiver.requests) == 4
    [row] = memory.rows("given up")
    assert "given up after 3 attempts" in row["reason"]


async def test_retry_count_counts_a_server_that_is_away(tmp_path: Path) -> None:
    async with receiving() as gone:
        pass
    memory.clear("away")
    errors = Output.parse({"type": "memory", "key": "away"})
    stream = _stream(gone, retry_count=1).model_copy(update={"error_output": errors})
    await Engine([stream], data=tmp_path).run()
    [row] = memory.rows("away")
    assert "given up after 2 attempts" in row["reason"]


async def test_a_stream_tries_again_for_ever_without_retry_count(receiver: Receiver, tmp_path: Path) -> None:
    receiver.respond = lambda request, body: web.Response(status=500 if len(receiver.requests) < 4 else 200)
    await Engine([_stream(receiver)], data=tmp_path).run()
    assert (len(receiver.requests), receiver.bodies) == (5, [b'{"n":1}'])


async def test_a_lost_connection_made_the_stream_send_what_had_arrived_again(
    receiver: Receiver, tmp_path: Path
) -> None:
    lost = False

    def respond(request: web.Request, body: bytes) -> web.Response:
        nonlocal lost
        if body == b'{"n":2}' and not lost:
            lost = True
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=500)
        return web.Response()

    receiver.respond = respond
    await Engine([_stream(receiver, '{"n": 1}\n{"n": 2}', concurrency=1)], data=tmp_path).run()
    assert lost
    assert receiver.bodies == [b'{"n":1}', b'{"n":2}']


def _stream(receiver: Receiver, payload: str = '{"n": 1}', **options: Any) -> Stream:
    return Stream.model_validate(
        {
            "input": {"type": "memory", "messages": [payload], "codec": "json"},
            "retry": {"initial": "1ms", "maximum": "5ms"},
            "restart": {"attempts": 0},
            "output": {"type": "http", "url": receiver.url, **options},
        }
    )


async def test_equal_rows_of_other_batches_were_taken_for_a_repetition(receiver: Receiver, tmp_path: Path) -> None:
    receiver.respond = lambda request, body: web.Response(status=503 if body == b"b" else 200)
    async with writing(tmp_path, receiver, concurrency=1) as writer:
        with pytest.raises(TransientError):
            await writer.write([raw(b"a", b"b")])
        await writer.write([raw(b"a")])
    assert receiver.bodies == [b"a", b"a"]


async def test_r11_nobody_there_is_a_lost_connection(tmp_path: Path) -> None:
    async with receiving() as receiver:
        pass
    async with writing(tmp_path, receiver) as writer:
        with pytest.raises(ConnectionLost, match="cannot talk to http://127"):
            await writer.write([raw(b"1")])


@pytest.mark.parametrize("options", [{"timeout_ms": 50}, {"timeout": "50ms"}])
async def test_a_slow_answer_is_a_transient_error(receiver: Receiver, tmp_path: Path, options: dict) -> None:
    async def slow(request: web.Request, body: bytes) -> web.Response:
        await asyncio.sleep(1)
        return web.Response()

    receiver.respond = slow
    async with writing(tmp_path, receiver, **options) as writer:
        with pytest.raises(TransientError, match="in time"):
            await writer.write([raw(b"1")])


async def test_secrets_stand_in_no_message(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.respond = lambda request, body: web.Response(status=400, text=str(dict(request.headers)))
    options = {"headers": {"X-Api-Key": "s3cret-key"}}
    plain = receiver.url + "?key=hidden"
    for more in (
        {"url": plain, "auth": {"type": "basic", "username": "user", "password": "pa55word"}},
        {"url": plain, "auth": {"type": "bearer", "token": "s3cret-token"}},
    ):
        async with writing(tmp_path, receiver, **options, **more) as writer:
            with pytest.raises(RowsRejected) as rejected:
                await writer.write([raw(b"1")])
        for secret in ("s3cret", "hidden", "pa55word"):
            assert secret not in str(rejected.value)
            assert secret not in caplog.text


async def test_large_bodies_are_sent(receiver: Receiver, tmp_path: Path) -> None:
    async with writing(tmp_path, receiver) as writer:
        with pytest.raises(RowsRejected, match="413"):
            await writer.write([raw(b"x" * (2 << 20))])


async def test_keys_let_the_server_notice_repetitions(receiver: Receiver, tmp_path: Path) -> None:
    batch = pa.record_batch({"id": ["k1", "k2\r\nX-Evil: 1", None], "a": [1, 2, 3]})
    for options in ({}, {"batch": {"rows": 3}}):
        for _ in range(2):
            async with writing(tmp_path, receiver, idempotency_key="id", concurrency=1, **options) as writer:
                await writer.write([batch])
    keys = [request.headers.get("Idempotency-Key") for request in receiver.requests]
    assert (keys[0], keys[2]) == ("k1", None)
    assert keys[:3] == keys[3:6]
    assert keys[6] == keys[7] != keys[0]
    assert all("X-Evil" not in request.headers for request in receiver.requests)


async def test_each_row_can_have_its_own_url(receiver: Receiver, tmp_path: Path) -> None:
    url = {"type": "expr", "expr": f"concat('{receiver.url}/', id)"}
    batch = pa.record_batch({"id": ["a", "b", "a"], "__value__": pa.array([b"1", b"2", b"3"])})
    async with writing(tmp_path, receiver, url=url, concurrency=1) as writer:
        await writer.write([batch])
    async with writing(tmp_path, receiver, url=url, concurrency=1, batch={"rows": 10}) as writer:
        await writer.write([batch])
    assert [request.path for request in receiver.requests] == ["/in/a", "/in/b", "/in/a", "/in/a", "/in/b"]
    assert receiver.bodies == [b"1", b"2", b"3", b"1\n3\n", b"2\n"]


async def test_rows_without_a_proper_url_are_refused_before_anything_is_sent(
    receiver: Receiver, tmp_path: Path
) -> None:
    batch = pa.record_batch({"url": [receiver.url, None, "file:///x", f"{receiver.url}/ x"], "a": [1, 2, 3, 4]})
    async with writing(tmp_path, receiver, url={"type": "expr", "expr": "url"}) as writer:
        with pytest.raises(RowsRejected) as rejected:
            await writer.write([batch])
        assert set(rejected.value.reasons) == {1, 2, 3}
        assert receiver.bodies == []
        await writer.write([batch.slice(0, 1)])
    assert len(receiver.bodies) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"url": "ftp://x"}, "expected a URL"),
        ({"url": "http://"}, "expected a URL"),
        ({"url": "http://x/\r\nX: y"}, "expected a URL"),
        ({"url": "http://x", "method": "TRACE"}, "'GET', 'POST'"),
        ({"url": "http://x", "headers": {"a b": "c"}}, "name of a header"),
        ({"url": "http://x", "headers": {"a": "b\nc"}}, "control characters"),
        ({"url": "http://x", "auth": {"type": "digest"}}, "'basic', 'bearer'"),
        ({"url": "http://x", "auth": {"type": "bearer", "token": "a\nb"}}, "control characters"),
        ({"url": "http://u:p@x"}, "expected user and password in `auth`"),
        ({"url": "http://x", "headers": {"authorization": "t"}, "auth": {"Bearer": {"token": "t"}}}, "in one place"),
        ({"url": "http://x", "timout_ms": 1}, "did you mean 'timeout_ms'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Http.model_validate(options)


def test_spaces_around_the_url_are_ignored() -> None:
    assert Http(url=" http://example.com/x \n").url.constant == "http://example.com/x"  # type: ignore[arg-type]


class TestHttp(OutputSuite):
    ordered = False

    @pytest.fixture
    async def component(self) -> AsyncIterator[Output]:
        async with receiving() as receiver:
            self.receiver = receiver
            yield Output.parse({"type": "http", "url": receiver.url, "concurrency": 8})

    async def read_back(self, component: Output) -> Sequence[dict[str, Any]]:
        return self.receiver.rows()

    def sample(self, start: int, rows: int) -> Batch:
        return sample(start, rows)
