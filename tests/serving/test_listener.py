import asyncio
import json
import socket
import ssl
import subprocess
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import pytest

from penstock.errors import ConfigError, ConnectionLost
from penstock.serving import connection
from penstock.serving.asgi import Receive, Scope, Send
from penstock.serving.listener import Listeners, answer, split_address
from penstock.serving.tls import Tls
from penstock.testing.clock import jumping
from penstock.testing.servers import free_port

HERE = "127.0.0.1:0"


async def show(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what the application was told."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await answer(
        send,
        200,
        {
            "path": scope["path"],
            "params": scope.get("path_params"),
            "root": scope["root_path"],
            "body": body.decode(),
        },
    )


async def talk(port: int, data: bytes, timeout: float = 60) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(timeout):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def get(port: int, path: str, method: str = "GET") -> tuple[int, dict]:
    raw = await talk(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("localhost:8080", ("localhost", 8080)),
        ("[::1]:1", ("::1", 1)),
        (":9000", ("127.0.0.1", 9000)),
    ],
)
def test_addresses_are_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert split_address(text) == expected


@pytest.mark.parametrize("text", ["", "localhost", "::1:80", "host:port", "host:70000", "http://host:80", "host:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        split_address(text)


async def test_paths_of_one_address_share_a_server() -> None:
    listeners = Listeners()
    async with listeners.mount(HERE, "/a", show) as first, listeners.mount(HERE, "/b/{c}", show) as second:
        assert first == second == listeners.port(HERE)
        assert (await get(first, "/a"))[1]["path"] == "/a"
        assert (await get(first, "/b/1"))[1]["params"] == {"c": "1"}
    async with listeners.mount(HERE, "/a", show) as port:
        assert (await get(port, "/b/1"))[0] == 404


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/t/plain/x", {"table": "plain"}),
        ("/t/a%2Fb/x", {"table": "a/b"}),
        ("/t/%C3%BC/x", {"table": "ü"}),
        ("/t/..%2f..%2fetc/x", {"table": "../../etc"}),
    ],
)
async def test_placeholders_are_one_decoded_part_of_the_path(path: str, params: dict) -> None:
    async with Listeners().mount(HERE, "/t/{table}/x", show) as port:
        assert (await get(port, path))[1]["params"] == params


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/t//x", 404),
        ("/t/a/b/x", 404),
        ("/t/a", 404),
        ("/t/a/x/", 404),
        ("/", 404),
        ("/t/%ff/x", 400),
        ("/t/a%0d%0aSet-Cookie:b/x", 400),
        ("/t/a%00/x", 400),
        (f"/t/{'a' * 257}/x", 400),
    ],
)
async def test_other_paths_are_refused_as_json(path: str, status: int) -> None:
    async with Listeners().mount(HERE, "/t/{table}/x", show) as port:
        found, body = await get(port, path)
    assert found == status
    assert body["error"]


async def test_the_more_special_path_wins() -> None:
    async def special(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 200, {"special": True})

    listeners = Listeners()
    async with AsyncExitStack() as stack:
        for path, app in [("/*", show), ("/a/*", show), ("/a/{b}", show), ("/a/b", special)]:
            port = await stack.enter_async_context(listeners.mount(HERE, path, app))
        assert (await get(port, "/a/b"))[1] == {"special": True}
        assert (await get(port, "/a/%62"))[1] == {"special": True}
        assert (await get(port, "/a/c"))[1]["params"] == {"b": "c"}
        assert (await get(port, "/a/c/d"))[1]["root"] == "/a"
        assert (await get(port, "/z/y"))[1]["root"] == ""


async def test_a_wrong_method_is_405_and_names_the_right_ones() -> None:
    async with Listeners().mount(HERE, "/a", show, methods=["post", "PUT"]) as port:
        raw = await talk(port, b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 405 ")
    assert b"allow: POST, PUT\r\n" in raw
    assert b'{"error":' in raw


@pytest.mark.parametrize(("first", "second"), [("/a", "/a"), ("/a/{x}", "/a/{y}"), ("/*", "/*")])
async def test_a_path_can_be_taken_once(first: str, second: str) -> None:
    listeners = Listeners()
    async with listeners.mount(HERE, first, show):
        with pytest.raises(ConfigError, match="served already"):
            async with listeners.mount(HERE, second, show):
                pass


async def test_a_path_begins_with_a_slash() -> None:
    with pytest.raises(ConfigError, match="begins with '/'"):
        async with Listeners().mount(HERE, "a", show):
            pass


async def test_r11_an_address_in_use_is_a_lost_connection_that_names_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionLost, match=f"cannot listen at {address}"):
            async with Listeners().mount(address, "/a", show):
                pass
    async with Listeners().mount(address, "/a", show) as port:
        assert (await get(port, "/a"))[0] == 200


async def test_a_host_that_does_not_exist_is_a_lost_connection() -> None:
    with pytest.raises(ConnectionLost, match=r"cannot listen at no\.such\.host\.invalid:1"):
        async with Listeners().mount("no.such.host.invalid:1", "/a", show):
            pass


async def test_running_requests_finish_when_the_path_is_closed() -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await finish.wait()
        await answer(send, 200, {"done": True})

    listeners = Listeners()
    async with listeners.mount(HERE, "/other", show) as port:
        stack = AsyncExitStack()
        await stack.enter_async_context(listeners.mount(HERE, "/slow", slow, grace=5))
        request = asyncio.create_task(get(port, "/slow"))
        await begun.wait()
        closing = asyncio.create_task(stack.aclose())
        await asyncio.sleep(0.05)
        assert (await get(port, "/slow"))[0] == 503
        assert (await get(port, "/other"))[0] == 200
        finish.set()
        assert await request == (200, {"done": True})
        await closing
        assert (await get(port, "/slow"))[0] == 503
        async with listeners.mount(HERE, "/slow", show):
            assert (await get(port, "/slow"))[0] == 200


async def test_requests_that_outlast_the_grace_are_answered_503() -> None:
    begun = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with Listeners().mount(HERE, "/a", endless, grace=0.05) as port:
        request = asyncio.create_task(get(port, "/a"))
        await begun.wait()
    assert (await request)[0] == 503


async def test_a_failing_application_is_500_without_a_word_of_why(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("the secret reason")

    async with Listeners().mount(HERE, "/a", fail) as port:
        status, body = await get(port, "/a")
    assert status == 500
    assert "secret" not in json.dumps(body)
    assert "the secret reason" in caplog.text


@pytest.mark.parametrize("parts", [1, 20])
async def test_headers_are_limited(parts: int) -> None:
    async with Listeners().mount(HERE, "/a", show) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        raw = b"reset"
        with suppress(ConnectionError):  # the client may notice first that the server has gone
            writer.write(b"GET /a HTTP/1.1\r\nHost: x\r\nX-Long: ")
            for _ in range(parts):
                writer.write(b"a" * (400_000 // parts))
                await writer.drain()
                await asyncio.sleep(0.001)
            writer.write(b"\r\n\r\n")
            raw = await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        assert raw == b"reset" or raw.startswith(b"HTTP/1.1 431 ")


async def test_many_headers_are_limited_too() -> None:
    headers = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(70))
    async with Listeners().mount(HERE, "/a", show) as port:
        assert (await talk(port, b"GET /a HTTP/1.1\r\n" + headers + b"\r\n")).startswith(b"HTTP/1.1 431 ")


async def test_a_long_body_is_not_taken_for_headers() -> None:
    request = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + b"x" * 90_000
    last = request.replace(b"Host: x", b"Host: x\r\nConnection: close")
    async with Listeners().mount(HERE, "/a", show) as port:
        assert (await talk(port, request + request + last)).count(b"HTTP/1.1 200 ") == 3


async def test_what_is_not_http_is_refused() -> None:
    async with Listeners().mount(HERE, "/a", show) as port:
        assert (await talk(port, b"\x16\x03\x01 hello\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        assert (await get(port, "/a"))[0] == 200


@jumping
async def test_headers_that_trickle_in_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.1)
    async with Listeners().mount(HERE, "/a", show) as port:
        silent, begun = await asyncio.gather(talk(port, b""), talk(port, b"GET /a HTTP/1.1\r\nHost:"))
    assert silent.startswith(b"HTTP/1.1 408 ")
    assert begun.startswith(b"HTTP/1.1 408 ")


@jumping
async def test_a_body_that_does_not_come_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.1)
    gone = asyncio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async with Listeners().mount(HERE, "/a", wait) as port:
        assert await talk(port, b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12") == b""
        await asyncio.wait_for(gone.wait(), 60)


@jumping
async def test_a_slow_application_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.1)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1.5)
        await show(scope, receive, send)

    async with Listeners().mount(HERE, "/a", slow) as port:
        data = b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200000
        assert (await talk(port, data)).startswith(b"HTTP/1.1 200 ")


async def test_websockets_reach_their_application() -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        message = await receive()
        await send({"type": "websocket.send", "text": scope["path_params"]["who"] + message["text"]})
        await send({"type": "websocket.close"})

    async with (
        Listeners().mount(HERE, "/ws/{who}", echo) as port,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://127.0.0.1:{port}/ws/me") as socket_,
    ):
        await socket_.send_str(" hello")
        assert (await socket_.receive_str()) == "me hello"


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    files = Tls(tmp_path / "certificate.pem", tmp_path / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


async def test_tls_is_spoken_where_it_is_wanted(tls: Tls) -> None:
    listeners = Listeners()
    trusting = ssl.create_default_context(cafile=str(tls.certificate))
    async with listeners.mount(HERE, "/a", show, tls=tls) as port:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"https://127.0.0.1:{port}/a", ssl=trusting) as response,
        ):
            assert response.status == 200
        with pytest.raises(ConfigError, match="other TLS files"):
            async with listeners.mount(HERE, "/b", show):
                pass


async def test_clients_without_a_certificate_are_turned_away(tls: Tls) -> None:
    mutual = tls._replace(client_authority=tls.certificate)
    trusting = ssl.create_default_context(cafile=str(tls.certificate))
    async with Listeners().mount(HERE, "/a", show, tls=mutual) as port, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"https://127.0.0.1:{port}/a", ssl=trusting)
        trusting.load_cert_chain(tls.certificate, tls.key)
        async with session.get(f"https://127.0.0.1:{port}/a", ssl=trusting) as response:
            assert response.status == 200


async def test_tls_files_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no-such\.pem"):
        async with Listeners().mount(HERE, "/a", show, tls=Tls(tmp_path / "no-such.pem", tmp_path / "key.pem")):
            pass


def test_importing_the_listener_does_not_import_a_server() -> None:
    code = "import sys, penstock.component; sys.exit('uvicorn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class _Wire(asyncio.Transport):
    """Notes what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said.append(bytes(data))

    def close(self) -> None:
        self.said.append("closed")


async def test_the_head_of_an_answer_goes_out_with_its_body() -> None:
    wire = _Wire()
    answers = connection._Joining(wire, asyncio.get_running_loop())
    answers.write(b"head ")
    assert wire.said == []
    answers.write(b"body")
    assert wire.said == [b"head body"]


async def test_no_part_of_an_answer_is_held_for_long() -> None:
    wire = _Wire()
    answers = connection._Joining(wire, asyncio.get_running_loop())
    answers.write(b"head")
    await asyncio.sleep(0)
    assert wire.said == [b"head"]
    answers.write(b"more")
    answers.close()
    await asyncio.sleep(0)
    assert wire.said == [b"head", b"more", "closed"]


async def test_what_will_be_served_is_not_called_a_wrong_path_meanwhile() -> None:
    listeners = Listeners()
    address = f"127.0.0.1:{free_port()}"
    for path in ("/later", "/api/*"):
        listeners.expect(address, path)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 200, {"path": scope["path"]})

    async def statuses(session: aiohttp.ClientSession) -> list[int]:
        return [(await session.post(f"http://{address}{path}")).status for path in ("/later", "/api/a/b", "/no")]

    async with aiohttp.ClientSession() as session, listeners.mount(address, "/", app):
        assert await statuses(session) == [503, 503, 404]
        async with listeners.mount(address, "/later", app), listeners.mount(address, "/api/*", app):
            assert await statuses(session) == [200, 200, 404]
        assert await statuses(session) == [503, 503, 404]
