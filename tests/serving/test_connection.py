"""Limits of a listener: one client does not shut out the others, and probes are always answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from penstock.serving import connection
from penstock.serving.asgi import Receive, Scope, Send
from penstock.serving.listener import Listeners, answer
from penstock.testing.waiting import until

HERE = "0.0.0.0:0"
SHARE = 10


async def take(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await answer(send, 200, {})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", SHARE * connection.CLIENT_SHARE)
    listeners = Listeners()
    async with listeners.mount(HERE, "/rows", take), listeners.mount(HERE, "/health", take, probe=True) as port:
        yield port


async def connect(port: int, client: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(client, 0))


async def ask(port: int, path: str, client: str) -> int:
    """Ask over a connection of its own; returns the status."""
    reader, writer = await connect(port, client)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(60):
        status = int((await reader.readline()).split()[1])
    writer.close()
    return status


@asynccontextmanager
async def held(port: int, client: str, count: int, begun: bytes = b"") -> AsyncIterator[list[asyncio.StreamReader]]:
    """Hold connections, on each of which something was begun; yields what reads them."""
    pairs = []
    for _ in range(count):
        pairs.append(await connect(port, client))
        pairs[-1][1].write(begun)
        await pairs[-1][1].drain()
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    try:
        yield [reader for reader, _ in pairs]
    finally:
        for _, writer in pairs:
            writer.transport.abort()


KEPT_ALIVE = b"GET /rows HTTP/1.1\r\nHost: x\r\n\r\n"
IN_HEADERS = b"GET /rows HTTP/1.1\r\nHost: x\r\n"
IN_BODY = b"POST /rows HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx"


@pytest.mark.parametrize("begun", [b"", KEPT_ALIVE, IN_HEADERS], ids=["silent", "kept alive", "in its headers"])
async def test_idle_connections_of_one_client_shut_out_nobody(begun: bytes, port: int) -> None:
    async with held(port, "127.0.0.2", SHARE * connection.CLIENT_SHARE * 3, begun):
        for client in ("127.0.0.1", "127.0.0.2"):
            assert await ask(port, "/rows", client) == 200
            assert await ask(port, "/health", client) == 200


async def test_its_oldest_idle_connections_are_closed(port: int) -> None:
    async with held(port, "127.0.0.2", SHARE + 3, KEPT_ALIVE) as readers:
        async with asyncio.timeout(60):
            for reader in readers[:3]:
                await reader.read()
        assert not readers[-1].at_eof()


async def test_a_client_that_is_busy_on_all_it_may_hold_is_refused_and_the_others_and_probes_are_not(port: int) -> None:
    async with held(port, "127.0.0.2", SHARE + connection.SLACK + 5, IN_BODY):
        assert await ask(port, "/rows", "127.0.0.2") == 503
        assert await ask(port, "/health", "127.0.0.2") == 200
        assert await ask(port, "/rows", "127.0.0.1") == 200

    async def is_served() -> bool:  # once it is noticed that they are gone
        return await ask(port, "/rows", "127.0.0.2") == 200

    await until(is_served)


async def test_many_clients_that_are_busy_leave_the_probes(port: int) -> None:
    async with (
        held(port, "127.0.0.2", SHARE + 10, IN_BODY),
        held(port, "127.0.0.3", SHARE + 10, IN_BODY),
        held(port, "127.0.0.4", SHARE + 10, IN_BODY),
    ):
        assert await ask(port, "/rows", "127.0.0.1") == 503
        assert await ask(port, "/health", "127.0.0.1") == 200


async def test_a_request_that_is_not_valid_is_logged_with_who_sent_it_and_not_without_end(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            reader, writer = await connect(port, "127.0.0.3")
            writer.write(b"nonsense\r\n\r\n")
            async with asyncio.timeout(60):
                await reader.read()
            writer.close()
    assert caplog.messages == ["127.0.0.3 sent what is not a valid HTTP request"]
