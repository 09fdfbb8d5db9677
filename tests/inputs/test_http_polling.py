import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from penstock.component import Input, Reader
from penstock.errors import ConnectionLost, EndOfInput, PermanentError, TransientError
from penstock.metadata import attach
from penstock.state.memory import MemoryStore
from penstock.testing.clock import jumping
from penstock.testing.contexts import lend_context
from penstock.testing.suites.inputs import InputSuite

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handler))  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/api"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def polling(
    directory: Path, handler: Handler, store: MemoryStore | None = None, **options: Any
) -> AsyncIterator[Reader]:
    async with answering(handler) as url:
        component = Input.parse({"type": "http", "url": url, "once": True, **options})
        async with lend_context(directory, store) as context, component.open(context) as reader:
            yield reader


async def payloads(reader: Reader) -> list[Any]:
    found: list[Any] = []
    while True:
        try:
            delivery = await reader.read()
        except EndOfInput:
            return found
        found += [json.loads(payload) for payload in delivery.batch.column(0).to_pylist()]
        await delivery.ack()


def always(body: Any, **options: Any) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=text, content_type="application/json", **options)

    return handler


async def test_an_answer_is_split_into_rows(tmp_path: Path) -> None:
    for body in ([{"a": 1}, {"a": 2}], '{"a":1}\n{"a":2}\n'):
        async with polling(tmp_path, always(body)) as reader:
            assert await payloads(reader) == [{"a": 1}, {"a": 2}]


async def test_records_are_found_by_their_path(tmp_path: Path) -> None:
    answer = {"data": {"items": [{"a": 1}, {"a": 2}]}}
    for path in ("data.items", "/data/items"):
        async with polling(tmp_path, always(answer), records=path) as reader:
            assert await payloads(reader) == [{"a": 1}, {"a": 2}]
    with pytest.raises(PermanentError, match=r"without 'data\.rows': there is no 'rows'"):
        async with polling(tmp_path, always(answer), records="data.rows"):
            pass


async def test_origin_tells_the_url_without_its_secrets(tmp_path: Path) -> None:
    async with answering(always([{}])) as url:
        secret = url + "?key=hidden"
        component = Input.parse({"type": "http", "url": secret})
        async with lend_context(tmp_path) as context, component.open(context) as reader:
            delivery = await reader.read()
    batch = attach(delivery.batch, delivery.origin)
    assert batch.column("__meta_ext").to_pylist() == [[("url", url)]]


def pages(count: int) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        page = int(request.query.get("page", 0))
        following = page + 1 if page + 1 < count else None
        return web.json_response({"rows": [{"n": 2 * page}, {"n": 2 * page + 1}], "next": following})

    return handler


async def test_pages_follow_one_another_at_once(tmp_path: Path) -> None:
    options = {"records": "rows", "cursor": {"param": "page", "pointer": "next"}}
    async with polling(tmp_path, pages(3), interval="1h", **options) as reader:
        assert [row["n"] for row in await asyncio.wait_for(payloads(reader), 60)] == list(range(6))


async def test_a_last_page_comes_again_only_when_it_has_grown(tmp_path: Path) -> None:
    rows = [{"n": 1}]
    store = MemoryStore()
    options = {"records": "rows", "cursor": {"param": "page", "pointer": "next"}}

    async def last(request: web.Request) -> web.Response:
        return web.json_response({"rows": rows, "next": None})

    for expected in ([{"n": 1}], [], [{"n": 1}, {"n": 2}], []):
        if len(expected) == 2:
            rows.append({"n": 2})
        async with polling(tmp_path, last, store, **options) as reader:
            assert await payloads(reader) == expected


async def test_a_restart_asks_only_for_what_is_new(tmp_path: Path) -> None:
    rows = [{"id": number} for number in range(1, 4)]
    asked: list[str | None] = []

    async def since(request: web.Request) -> web.Response:
        asked.append(request.query.get("after"))
        return web.json_response([row for row in rows if row["id"] > int(request.query.get("after", 0))])

    store = MemoryStore()
    options = {"cursor": {"param": "after", "field": "id", "start": 1}}
    async with polling(tmp_path, since, store, **options) as reader:
        assert await payloads(reader) == [{"id": 2}, {"id": 3}]
    rows.append({"id": 4})
    async with polling(tmp_path, since, store, **options) as reader:
        assert await payloads(reader) == [{"id": 4}]
    assert asked == ["1", "3", "3", "4"]


async def test_what_has_not_changed_is_not_delivered_again(tmp_path: Path) -> None:
    etag, asked = '"one"', []

    async def conditional(request: web.Request) -> web.Response:
        asked.append(request.headers.get("If-None-Match"))
        if asked[-1] == etag:
            return web.Response(status=304)
        return web.json_response([{"etag": etag}], headers={"ETag": etag})

    store = MemoryStore()
    async with polling(tmp_path, conditional, store, once=False, interval="10ms") as reader:
        delivery = await reader.read()
        await delivery.ack()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(), 0.2)
        etag = '"two"'
        await (await reader.read()).ack()
    async with polling(tmp_path, conditional, store) as reader:
        assert await payloads(reader) == []
    assert asked[-1] == '"two"'


async def test_it_asks_again_after_the_interval(tmp_path: Path) -> None:
    asked = 0

    async def count(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response([{"n": asked}])

    async with polling(tmp_path, count, once=False, interval="50ms") as reader:
        started = asyncio.get_running_loop().time()
        for _ in range(4):
            await (await reader.read()).ack()
        assert asyncio.get_running_loop().time() - started >= 0.14


async def test_requests_carry_what_was_said(tmp_path: Path) -> None:
    async def check(request: web.Request) -> web.Response:
        return web.json_response(
            [
                {
                    "method": request.method,
                    "body": await request.text(),
                    **{k.lower(): v for k, v in request.headers.items()},
                }
            ]
        )

    options = {"auth": {"type": "bearer", "token": "t"}, "headers": {"X-Key": "k"}, "method": "POST", "body": "q"}
    async with polling(tmp_path, check, **options) as reader:
        (found,) = await payloads(reader)
    assert (found["method"], found["body"], found["x-key"]) == ("POST", "q", "k")
    assert found["authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, TransientError),
        (500, TransientError),
        (503, TransientError),
        (408, TransientError),
        (401, PermanentError),
        (404, PermanentError),
        (302, PermanentError),
    ],
)
async def test_refusing_answers_are_told_apart(tmp_path: Path, status: int, error: type[Exception]) -> None:
    headers = {"Retry-After": "7", "Location": "http://127.0.0.1:1/"}
    handler = always("bad token s3cret-token", status=status, headers=headers)
    with pytest.raises(error, match=f"answered {status}") as failure:
        async with polling(tmp_path, handler, auth={"type": "bearer", "token": "s3cret-token"}):
            pass
    assert "s3cret" not in str(failure.value)
    assert ("after 7 s" in str(failure.value)) == (error is TransientError)


async def test_credentials_do_not_follow_a_redirect(tmp_path: Path) -> None:
    seen: list[str | None] = []

    async def elsewhere(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.json_response([{}])

    async with answering(elsewhere) as other:
        with pytest.raises(PermanentError, match="it has moved"):
            async with polling(
                tmp_path, always("", status=302, headers={"Location": other}), auth={"type": "bearer", "token": "t"}
            ):
                pass
        assert seen == []
        async with polling(tmp_path, always("", status=302, headers={"Location": other})) as reader:
            assert await payloads(reader) == [{}]


async def test_nobody_there_is_a_lost_connection(tmp_path: Path) -> None:
    async with answering(always([])) as url:
        pass
    component = Input.parse({"type": "http", "url": url})
    async with lend_context(tmp_path) as context:
        with pytest.raises(ConnectionLost, match="cannot talk to http://127"):
            async with component.open(context):
                pass


@jumping
async def test_a_slow_answer_is_a_transient_error(tmp_path: Path) -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(1)
        return web.Response()

    with pytest.raises(TransientError, match="in time"):
        async with polling(tmp_path, slow, timeout="50ms"):
            pass


@pytest.mark.parametrize("body", ["{", '{"a": [}', "[" * 100_000])
async def test_an_answer_that_is_no_json_is_a_permanent_error(tmp_path: Path, body: str) -> None:
    with pytest.raises(PermanentError, match="no good"):
        async with polling(tmp_path, always(body)):
            pass
    with pytest.raises(PermanentError, match="no good"):
        async with polling(tmp_path, always(body), records="a"):
            pass


async def test_an_answer_that_is_too_long_is_a_permanent_error(tmp_path: Path) -> None:
    async def bomb(request: web.Request) -> web.Response:
        body = gzip.compress(b" " * 10_000_000)
        return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    with pytest.raises(PermanentError, match="more than 1000 bytes"):
        async with polling(tmp_path, bomb, max_body="1KB"):
            pass


async def test_a_failure_while_open_is_raised_by_read(tmp_path: Path) -> None:
    failing = False

    async def sometimes(request: web.Request) -> web.Response:
        return web.Response(status=500) if failing else web.json_response([{}])

    async with polling(tmp_path, sometimes, once=False, interval="10ms") as reader:
        await (await reader.read()).ack()
        failing = True
        await asyncio.sleep(0.02)
        with pytest.raises(TransientError, match="answered 500"):
            await reader.read()


class TestPolling(InputSuite):
    @pytest.fixture
    async def component(self) -> AsyncIterator[Input]:
        options = {"records": "rows", "cursor": {"param": "page", "pointer": "next"}, "once": True, "codec": "json"}
        async with answering(pages(6)) as url:
            yield Input.parse({"type": "http", "url": url, **options})
