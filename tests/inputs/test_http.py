import asyncio
import gzip
import io
import json
import logging
import socket
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow as pa
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from penstock.api import run
from penstock.component import Input, Reader
from penstock.context import Context
from penstock.errors import PermanentError, TransientError
from penstock.inputs.http import Http
from penstock.metadata import attach
from penstock.stream import Stream
from penstock.testing.clock import jumping
from penstock.testing.contexts import lend_context
from penstock.testing.suites.inputs import InputSuite

HERE = "127.0.0.1:0"


@dataclass
class Service:
    """An open input, and a client of it."""

    reader: Reader
    session: aiohttp.ClientSession
    url: str
    context: Context

    async def post(
        self, body: Any, path: str = "/events", kind: str | None = "application/json", **headers: str
    ) -> tuple[int, dict]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if kind is not None:
            sent["Content-Type"] = kind
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(self.url + path, data=io.BytesIO(data), headers=sent) as response:
            return response.status, await response.json()

    async def refused(self, body: Any, **options: str) -> tuple[int, str]:
        status, answer = await self.post(body, **options)
        return status, answer["error"]

    async def accepted(self, body: Any, **options: str) -> list[Any]:
        """Post, ack what is delivered and return it."""
        posting = asyncio.create_task(self.post(body, **options))
        delivery = await asyncio.wait_for(self.reader.read(), 60)
        await delivery.ack()
        assert await posting == (200, {"accepted": delivery.batch.num_rows})
        if delivery.batch.schema.names == ["__value__"]:
            return delivery.batch.column(0).to_pylist()
        return delivery.batch.to_pylist()


@asynccontextmanager
async def serving(directory: Path, **options: Any) -> AsyncIterator[Service]:
    component = Input.parse({"type": "http", "address": HERE, "path": "/events", **options})
    async with (
        lend_context(directory) as context,
        component.open(context) as reader,
        aiohttp.ClientSession(auto_decompress=True) as session,
    ):
        yield Service(reader, session, f"http://127.0.0.1:{context.listeners.port(HERE)}", context)


@jumping
async def test_r4_a_request_is_answered_only_after_its_rows_are_durable(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        posting = asyncio.create_task(service.post({"a": 1}))
        delivery = await service.reader.read()
        await asyncio.sleep(0.05)
        assert not posting.done()
        await delivery.ack()
        assert await posting == (200, {"accepted": 1})


@pytest.mark.parametrize(
    ("body", "payloads"),
    [
        (b'{"a": 1}', [b'{"a": 1}']),
        (b' \n{"a": 1}\n', [b'{"a": 1}']),
        (b'{\n"a":\n1}', [b'{\n"a":\n1}']),
        (b'[{"a":1}, {"b": [2]}]', [b'{"a":1}', b'{"b": [2]}']),
        (b'{"a":1}{"b":2}\n{\n"c":3\n}', [b'{"a":1}', b'{"b":2}', b'{\n"c":3\n}']),
        (b'{"a":1}\n{"b":"\\ud83d"}\n{"c":3}', [b'{"a":1}', b'{"b":"\\ud83d"}', b'{"c":3}']),
        (b'[{"\\ude00":1}, {"b":"\\ud83d\\ude00"}]', [b'{"\\ude00":1}', b'{"b":"\\ud83d\\ude00"}']),
        (b'{"a":1}\n{"b":2}\r\n\n{"c":3}', [b'{"a":1}', b'{"b":2}', b'{"c":3}']),
        (b'\xef\xbb\xbf{"a":1}', [b'{"a":1}']),
        ('{"a":"ü"}'.encode(), ['{"a":"ü"}'.encode()]),
    ],
)
async def test_arrays_and_lines_are_split_into_rows(tmp_path: Path, body: bytes, payloads: list[bytes]) -> None:
    async with serving(tmp_path) as service:
        assert await service.accepted(body) == payloads
        assert await service.accepted(body, kind="application/x-www-form-urlencoded") == payloads
        assert await service.accepted(body, kind="application/x-ndjson") == payloads


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is empty"),
        (b" \n ", "the body is empty"),
        (b"xyz", "byte 0, line 1"),
        (b'{"a":1', "ends within a value"),
        (b'{"a":1}\n{"b":2}\n{"c"}', "byte 20, line 3"),
        (b'[{"a":1},]', "byte 9, line 1"),
        (b'[{"a":1}] {"b":1}', "trailing characters"),
        (b'{"a":"\xff"}', "not UTF-8 (byte 6, line 1)"),
        (b'{"a":NaN}', "byte 5, line 1"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b"{" * 100_000, "byte 1, line 1"),
    ],
)
async def test_malformed_json_is_400_with_its_place(tmp_path: Path, body: bytes, reason: str) -> None:
    async with serving(tmp_path) as service:
        status, error = await service.refused(body)
        assert status == 400
        assert reason in error
        assert await service.accepted({"still": "alive"})


async def test_with_a_json_codec_every_body_is_to_be_json(tmp_path: Path) -> None:
    async with serving(tmp_path, codec="json") as service:
        assert (await service.refused(b"temp=1", kind="text/plain"))[0] == 400
        assert await service.refused(b'[{"a":1}, 2]') == (400, "row 2 is not a JSON object")
        assert await service.refused(b'"text"') == (400, "row 1 is not a JSON object")


async def test_bodies_of_other_kinds_are_taken_whole(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        for kind in ("text/plain", "application/octet-stream"):
            assert await service.accepted(b"[one\ntwo", kind=kind) == [b"[one\ntwo"]
        assert await service.accepted(b"a=1&b=2", kind="application/x-www-form-urlencoded") == [b"a=1&b=2"]


@pytest.mark.parametrize(
    ("framing", "body", "payloads"),
    [
        ("lines", b"a\n\nb\r\nc", [b"a", b"b", b"c"]),
        ("whole", b"a\nb\n", [b"a\nb\n"]),
        ("length_delimited", b"\0\0\0\1a\0\0\0\2bc", [b"a", b"bc"]),
    ],
)
async def test_the_framing_can_be_said(tmp_path: Path, framing: str, body: bytes, payloads: list[bytes]) -> None:
    async with serving(tmp_path, framing=framing) as service:
        assert await service.accepted(body, kind="text/plain") == payloads


async def test_what_does_not_fit_the_framing_is_400(tmp_path: Path) -> None:
    async with serving(tmp_path, framing="length_delimited") as service:
        assert (await service.refused(b"\0\0\0\7a", kind="text/plain"))[0] == 400
    async with serving(tmp_path, framing="lines") as service:
        status, error = await service.refused(b'{"a":1}\n{"b"', kind="application/x-ndjson")
        assert (status, error.startswith("payload 2: ")) == (400, True)


async def test_nothing_to_accept_is_accepted_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        assert await service.post([]) == (200, {"accepted": 0})


ROWS = pa.table({"id": [1, 2, 3], "name": ["a", None, "c"]})


def arrow_stream(table: pa.Table, compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pa.parquet.write_table(table, sink)
    return sink.getvalue()


ARROW, CSV, PARQUET = "application/vnd.apache.arrow.stream", "text/csv", "application/vnd.apache.parquet"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (arrow_stream(ROWS), ARROW),
        (arrow_stream(ROWS, "zstd"), ARROW),
        (arrow_stream(ROWS, "lz4"), ARROW),
        (arrow_stream(ROWS.set_column(1, "name", ROWS["name"].dictionary_encode()), "zstd"), ARROW),
        (b"id,name\n1,a\n2,\n3,c\n", CSV + "; charset=utf-8"),
        (parquet(ROWS), PARQUET),
    ],
)
async def test_tables_are_read_as_rows(tmp_path: Path, body: bytes, kind: str) -> None:
    async with serving(tmp_path, codec="json") as service:
        rows = await service.accepted(body, kind=kind)
    assert [(row["id"], row["name"] or None) for row in rows] == [(1, "a"), (2, None), (3, "c")]


@pytest.mark.parametrize("kind", [ARROW, CSV, PARQUET])
async def test_tables_that_are_broken_are_400(tmp_path: Path, kind: str) -> None:
    body = {ARROW: arrow_stream(ROWS, "zstd"), CSV: b"a,b\n1\n", PARQUET: parquet(ROWS)}[kind]
    async with serving(tmp_path) as service:
        for broken in (b"\x01\x02garbage" * 10, body[: len(body) // 2] if kind != CSV else body):
            status, error = await service.refused(broken, kind=kind)
            assert status == 400, error


async def test_a_table_cannot_forge_metadata(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        for name in ("__meta_source", "__value__"):
            status, error = await service.refused(arrow_stream(pa.table({name: ["x"]})), kind=ARROW)
            assert (status, name in error) == (400, True)


async def test_tables_that_grow_are_413(tmp_path: Path) -> None:
    huge = pa.table({"a": pa.array([0]).take(pa.repeat(0, 4_000_000))})
    async with serving(tmp_path, max_body="1MiB") as service:
        for body, kind in ((arrow_stream(huge, "zstd"), ARROW), (parquet(huge), PARQUET)):
            assert len(body) < 1 << 20
            assert (await service.refused(body, kind=kind))[0] == 413


def zstd(body: bytes, codec: str = "zstd") -> bytes:
    return pa.Codec(codec).compress(body).to_pybytes()


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:5]) + gzip.compress(body[5:])),
        ("deflate", zlib.compress),
        ("zstd", zstd),
        ("br", lambda body: zstd(body, "brotli")),
        ("identity", bytes),
    ],
)
async def test_compressed_bodies_are_read(tmp_path: Path, encoding: str, compress: Any) -> None:
    async with serving(tmp_path) as service:
        body = compress(b'{"a":1}\n{"b":2}')
        assert await service.accepted(body, Content_Encoding=encoding) == [b'{"a":1}', b'{"b":2}']


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br"])
async def test_zip_bombs_are_413_and_broken_ones_400(tmp_path: Path, encoding: str) -> None:
    compress: Any = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd}.get(
        encoding, lambda body: zstd(body, "brotli")
    )
    bomb = compress(b" " * (300 << 20))
    async with serving(tmp_path, max_body="1MiB") as service:
        status, error = await service.refused(bomb, Content_Encoding=encoding)
        assert (status, error) == (413, "the body is longer than 1048576 bytes when decompressed")
        assert (await service.refused(b"not compressed at all", Content_Encoding=encoding))[0] == 400
        truncated = compress(json.dumps([{"a": number} for number in range(1000)]).encode())[:-20]
        assert (await service.refused(truncated, Content_Encoding=encoding))[0] == 400


async def test_a_body_of_countless_members_is_refused_quickly(tmp_path: Path) -> None:
    started = time.process_time()
    async with serving(tmp_path) as service:
        status, error = await service.refused(gzip.compress(b"") * 500_000, Content_Encoding="gzip")
    assert (status, "members" in error) == (400, True)
    assert time.process_time() - started < 10


async def test_unknown_encodings_are_415(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        for encoding in ("compress", "gzip, gzip"):
            assert (await service.refused(b"x", Content_Encoding=encoding))[0] == 415


async def test_bodies_that_are_too_long_are_413(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 1000

    async with serving(tmp_path, max_body="10KB") as service:
        assert await service.refused(b" " * 10_001) == (413, "the body is longer than 10000 bytes")
        async with service.session.post(service.url + "/events", data=chunks()) as response:
            assert response.status == 413
        assert await service.accepted({"a": "x" * 9_000})


async def test_other_methods_and_paths_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        async with service.session.get(service.url + "/events") as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")
        assert (await service.refused(b"{}", path="/event"))[0] == 404


@pytest.mark.parametrize(
    ("auth", "right", "wrong", "challenge"),
    [
        (
            {"type": "bearer", "token": "s3cret-tøken"},
            "Bearer s3cret-tøken",
            ["", "Bearer", "Bearer s3cret", "Basic s3cret-tøken", "s3cret-tøken", "Bearer s3cret-tøkenn"],
            "Bearer",
        ),
        (
            {"type": "basic", "username": "me", "password": "s3cret:x"},
            "basic bWU6czNjcmV0Ong=",
            ["", "Basic", "Basic !!!", "Basic bWU6czNjcmV0", "Bearer bWU6czNjcmV0Ong="],
            "Basic",
        ),
    ],
)
async def test_credentials_are_checked(
    tmp_path: Path, auth: dict, right: str, wrong: list[str], challenge: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(tmp_path, auth=auth) as service:
        for header in wrong:
            async with service.session.post(
                service.url + "/events", data=b"{}", headers={"Authorization": header}
            ) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"].startswith(challenge)
                assert "s3cret" not in await response.text()
        assert await service.accepted(b"{}", Authorization=right) == [b"{}"]
    assert "s3cret" not in caplog.text
    assert "s3cret" not in repr(Input.parse({"type": "http", "address": HERE, "path": "/", "auth": auth}))


async def test_credentials_are_checked_before_the_body_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path, auth={"type": "bearer", "token": "t"}) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.context.listeners.port(HERE))
        writer.write(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 60)).startswith(b"HTTP/1.1 401 ")
        writer.close()
        await writer.wait_closed()


@jumping
async def test_requests_that_wait_are_one_delivery(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        posts = [asyncio.create_task(service.post([{"n": n}, {"n": n}])) for n in range(20)]
        await asyncio.sleep(0.2)
        delivery = await service.reader.read()
        assert delivery.batch.num_rows == 40
        await delivery.ack()
        assert await asyncio.gather(*posts) == [(200, {"accepted": 2})] * 20


@jumping
async def test_one_delivery_is_bounded_but_a_request_is_not_divided(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        many = [{"n": n} for n in range(9_000)]
        posts = [asyncio.create_task(service.post(body)) for body in (many, many[:8000], many[:192], many[:1])]
        await asyncio.sleep(0.5)
        counts = []
        for _ in range(3):
            delivery = await service.reader.read()
            counts.append(delivery.batch.num_rows)
            await delivery.ack()
        await asyncio.gather(*posts)
        assert sorted(counts)[-1] == 9000
        assert sum(counts) == 17_193


async def test_rows_refused_for_ever_are_422_with_the_reason(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        posting = asyncio.create_task(service.post({"a": 1}))
        await (await service.reader.read()).nack(PermanentError("row 0: no such column 'a'"))
        assert await posting == (422, {"error": "the rows are refused: row 0: no such column 'a'"})


@jumping
async def test_a_poisoned_request_does_not_fail_the_others(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        posts = {n: asyncio.create_task(service.post({"n": n})) for n in range(5)}
        await asyncio.sleep(0.1)

        async def consume() -> None:
            while True:
                delivery = await service.reader.read()
                bad = [p for p in delivery.batch.column(0).to_pylist() if b"3" in p]
                await (delivery.nack(PermanentError("three is bad")) if bad else delivery.ack())

        consuming = asyncio.create_task(consume())
        statuses = {n: (await post)[0] for n, post in posts.items()}
        consuming.cancel()
        assert statuses == {0: 200, 1: 200, 2: 200, 3: 422, 4: 200}


async def test_rows_that_are_not_durable_are_503_without_inner_details(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as service:
        posting = asyncio.create_task(service.session.post(service.url + "/events", data=b"{}"))
        await (await service.reader.read()).nack(TransientError("postgres at 10.0.0.1 is down"))
        async with await posting as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert "postgres" not in await response.text()
    assert "postgres at 10.0.0.1 is down" in caplog.text


@jumping
async def test_rows_that_are_not_durable_in_time_are_503_and_not_delivered_later(tmp_path: Path) -> None:
    async with serving(tmp_path, timeout="100ms") as service:
        assert (await service.post({"n": 1}))[0] == 503
        assert await service.accepted({"n": 2}) == [b'{"n": 2}']


@jumping
async def test_requests_still_waiting_at_the_end_are_503(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        posts = [asyncio.create_task(service.session.post(service.url + "/events", data=b"{}")) for _ in range(3)]
        await asyncio.sleep(0.1)
        service.reader.close()  # type: ignore[attr-defined]
        for post in posts:
            async with await post as response:
                assert response.status == 503
        assert (await service.post({}))[0] == 503


@jumping
async def test_what_is_acked_while_it_closes_is_still_answered(tmp_path: Path) -> None:
    component = Input.parse({"type": "http", "address": HERE, "path": "/events"})
    async with lend_context(tmp_path) as context, aiohttp.ClientSession() as session:
        opening = component.open(context)
        reader = await opening.__aenter__()
        url = f"http://127.0.0.1:{context.listeners.port(HERE)}/events"
        posting = asyncio.create_task(session.post(url, data=b"{}"))
        delivery = await reader.read()
        closing = asyncio.create_task(opening.__aexit__(None, None, None))
        await asyncio.sleep(0.05)
        await delivery.ack()
        async with await posting as response:
            assert response.status == 200
        await closing


@jumping
async def test_a_client_that_leaves_takes_nothing_with_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        port = service.context.listeners.port(HERE)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        delivery = await service.reader.read()
        writer.close()
        await writer.wait_closed()
        await delivery.ack()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{}")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
        assert await service.accepted({"a": 1}) == [b'{"a": 1}']


@jumping
async def test_a_body_that_trickles_in_is_408(tmp_path: Path) -> None:
    async with serving(tmp_path, timeout="200ms") as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.context.listeners.port(HERE))
        writer.write(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(5):
            writer.write(b"{")
            await writer.drain()
            await asyncio.sleep(0.1)
        assert (await asyncio.wait_for(reader.readline(), 60)).startswith(b"HTTP/1.1 408 ")
        writer.close()
        await writer.wait_closed()


@jumping
async def test_too_much_waiting_holds_requests_back(tmp_path: Path) -> None:
    async with serving(tmp_path, max_waiting="1KB") as service:
        first = asyncio.create_task(service.post({"a": "x" * 2000}))
        delivery = await service.reader.read()
        second = asyncio.create_task(service.post({"b": 1}))
        reading = asyncio.create_task(service.reader.read())
        await asyncio.sleep(0.2)
        assert not reading.done()
        await delivery.ack()
        assert (await first)[0] == 200
        await (await reading).ack()
        assert (await second)[0] == 200


@jumping
async def test_requests_held_back_for_too_long_are_503(tmp_path: Path) -> None:
    async with serving(tmp_path, max_waiting="1KB", timeout="300ms") as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.context.listeners.port(HERE))
        writer.write(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 2002\r\n\r\n{" + b" " * 2000)
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(service.refused({"b": 1}))
        await asyncio.sleep(0.15)
        writer.write(b"}")
        assert await waiting == (503, "too much is waiting: send it again later")
        await (await service.reader.read()).ack()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()


@jumping
async def test_origin_tells_path_placeholders_and_headers(tmp_path: Path) -> None:
    async with serving(tmp_path, path="/t/{table}", headers=["X-Request-Id"]) as service:
        posts = [
            asyncio.create_task(service.post(body, path=f"/t/{table}", X_Request_Id=table))
            for body, table in (([{}, {}], "one"), ([{}], "a%2Fb"))
        ]
        await asyncio.sleep(0.1)
        delivery = await service.reader.read()
        await delivery.ack()
        await asyncio.gather(*posts)
    batch = attach(delivery.batch, delivery.origin)
    assert set(batch.column("__meta_source").to_pylist()) == {"http"}
    found = [dict(ext) for ext in batch.column("__meta_ext").to_pylist()]
    assert sorted(ext["table"] for ext in found) == ["a/b", "one", "one"]
    assert {ext["x-request-id"] for ext in found} == {"one", "a%2Fb"}
    assert {ext["remote"] for ext in found} == {"127.0.0.1"}


@jumping
async def test_origins_that_agree_are_kept_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        posts = [asyncio.create_task(service.post({})) for _ in range(3)]
        await asyncio.sleep(0.1)
        delivery = await service.reader.read()
        await delivery.ack()
        await asyncio.gather(*posts)
    assert delivery.origin is not None
    assert delivery.origin.ext == {"path": "/events", "remote": "127.0.0.1"}


async def test_pages_of_other_origins_may_post_where_that_is_wanted(tmp_path: Path) -> None:
    async with serving(tmp_path, cors_enabled=True, auth={"type": "bearer", "token": "t"}) as service:
        async with service.session.options(service.url + "/events") as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert "authorization" in response.headers["Access-Control-Allow-Headers"]
        async with service.session.post(service.url + "/events", data=b"{}") as response:
            assert response.headers["Access-Control-Allow-Origin"] == "*"
    async with serving(tmp_path) as service, service.session.options(service.url + "/events") as response:
        assert response.status == 405


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Content-Type": "text/plain"},
        {"Origin": "null", "Content-Type": "application/x-www-form-urlencoded"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Host": "evil.example"},
    ],
)
async def test_pages_of_other_origins_and_foreign_hosts_plant_no_rows(tmp_path: Path, headers: dict[str, str]) -> None:
    async with serving(tmp_path, same_origin=True) as service:
        async with service.session.post(service.url + "/events", data=b"{}", headers=headers) as response:
            assert response.status == 403
            assert "error" in await response.json()
        posting = asyncio.create_task(service.post({"from": "curl"}))
        delivery = await service.reader.read()
        await delivery.ack()
        await posting
    assert delivery.batch.num_rows == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "expected either `address` and `path`"),
        ({"address": HERE}, "expected a `path`"),
        ({"address": HERE, "path": "/", "url": "http://x"}, "expected either"),
        ({"address": "nowhere", "path": "/"}, "expected host:port"),
        ({"address": HERE, "path": "events"}, "expected a path like"),
        ({"address": HERE, "path": "/", "interval": "1s"}, "`interval` has no meaning beside `address`"),
        ({"url": "http://x", "cors_enabled": True}, "`cors_enabled` has no meaning beside `url`"),
        ({"address": HERE, "path": "/", "headers": {"a": "b"}}, "expected `headers` to be a list"),
        ({"url": "http://x", "headers": {"a": "b\r\nc: d"}}, "control characters"),
        ({"url": "file:///etc/passwd"}, "expected a URL"),
        ({"address": HERE, "path": "/", "auth": {"type": "bearer", "token": ""}}, "not empty"),
        ({"address": HERE, "path": "/", "auth": {"type": "basic", "username": "a:b", "password": "p"}}, "colon"),
        ({"address": HERE, "path": "/", "max_body": "many"}, "byte"),
        ({"address": HERE, "path": "/", "adress": 1}, "did you mean 'address'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Http.model_validate(options)


def test_sizes_are_written_with_units() -> None:
    assert Http(address=HERE, path="/", max_body="2MiB").max_body == 2 << 20  # type: ignore[arg-type]


@pytest.mark.parametrize("dead_letters", [False, True])
async def test_a_stream_goes_on_after_rows_that_it_refuses(tmp_path: Path, dead_letters: bool) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    source = {"type": "http", "address": address, "path": "/events", "codec": "json"}
    options = {"error_output": "drop"} if dead_letters else {}
    stream = Stream.model_validate({"input": source, "output": "drop", **options})
    stop = asyncio.Event()
    running = asyncio.create_task(run(stream, data=tmp_path, stop=stop))
    nested = b'{"a":' * 60 + b"1" + b"}" * 60

    async with aiohttp.ClientSession() as session:

        async def post(body: bytes) -> int:
            async with session.post(f"http://{address}/events", data=body) as response:
                return response.status

        async with asyncio.timeout(60):
            while True:
                try:
                    assert await post(b'{"n":0}') == 200
                    break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.02)
        bodies = [b'{"n":1}', nested, b'{"n":2}', b'{"n":3}']
        statuses = await asyncio.gather(*map(post, bodies))
        assert statuses == [200, 200 if dead_letters else 422, 200, 200]
        assert await post(b'{"n":4}') == 200
        stop.set()
        await asyncio.wait_for(running, 60)


class TestServing(InputSuite):
    replayable = checkpointed = bounded = ordered = limited = False

    @pytest.fixture
    def component(self) -> Input:
        return Input.parse({"type": "http", "address": HERE, "path": "/events", "codec": "json"})

    def expected(self, component: Input) -> list[Any]:
        return [{"n": n} for n in range(20)]

    async def supply(self, component: Input, context: Context) -> None:
        url = f"http://127.0.0.1:{context.listeners.port(HERE)}/events"
        async with aiohttp.ClientSession() as session:
            for row in self.expected(component):
                async with session.post(url, json=row) as response:
                    assert response.status in (200, 503)
