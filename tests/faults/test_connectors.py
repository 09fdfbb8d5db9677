"""All connectors at once before servers that are away, silent or not to be trusted: it is told, a stop is obeyed."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import datafusion  # noqa: F401 an import may block no event loop
import pyarrow as pa
import pytest

from penstock.component import Output
from penstock.testing.contexts import lend_context
from penstock.testing.faults import FaultProxy
from penstock.testing.servers import (
    Certificate,
    ClickhouseServer,
    InfluxdbServer,
    MongodbServer,
    MosquittoServer,
    PostgresServer,
    RedisServer,
    free_port,
    make_certificate,
)

from .connectors import CONNECTORS, OUTPUTS, PASSWORD, Place, stream
from .test_hanging import Penstock

pytestmark = [pytest.mark.server, pytest.mark.slow]
SHUTDOWN_TIMEOUT = 2.0
UPGRADING = ("nats", "postgres", "mysql", "kafka")
"""Connectors whose servers speak first, or are asked for TLS in their own protocol: their own tests have real ones."""
WRONG: dict[str, tuple[dict[str, Any], bool, str]] = {
    "self-signed": ({}, False, "self-signed certificate"),
    "expired": ({"expired": True}, True, "certificate has expired"),
    "another-host": ({"names": "DNS:elsewhere.example"}, True, "IP address mismatch|not valid for|doesn't match"),
}
"""Options of certificates, whether the client is told to trust them, and why it does not."""


class Listener:
    """A server that accepts connections, greets with TLS if it has a certificate, and says nothing else."""

    def __init__(self, certificate: Certificate | None) -> None:
        self._context = certificate.context() if certificate is not None else None
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._socket.getsockname()[1]
        self._kept: list[socket.socket] = []

    def run(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._socket.accept()
                self._kept.append(accepted)
                if self._context is not None:
                    threading.Thread(target=self._greet, args=(accepted, self._context), daemon=True).start()

    def _greet(self, accepted: socket.socket, context: ssl.SSLContext) -> None:
        with suppress(OSError):
            self._kept.append(context.wrap_socket(accepted, server_side=True))

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        for each in (self._socket, *self._kept):
            each.close()


@contextmanager
def listening(certificate: Certificate | None = None) -> Iterator[int]:
    listener = Listener(certificate)
    thread = threading.Thread(target=listener.run, daemon=True)
    thread.start()
    try:
        yield listener.port
    finally:
        listener.close()
        thread.join()


def check(folder: Path, expected: Mapping[str, tuple[dict[str, Any], str]]) -> None:
    """Run streams until each has told what is expected of it; then stop them."""
    streams = [{**each, "id": name, "stall_timeout": "2s"} for name, (each, _) in expected.items()]
    with Penstock(folder, *streams) as process:
        waiting = set(expected)

        def is_told() -> bool:
            status, body = process.get("/health")
            assert PASSWORD not in body
            found = json.loads(body)["streams"] if body else {}
            told = {
                name for name in waiting & found.keys() if re.search(expected[name][1], str(found[name]["trouble"]))
            }
            assert not told or status == 503
            waiting.difference_update(told)
            return not waiting

        process.wait_until(is_told, "trouble of each")
        code, seconds = process.stop()
        assert code in (0, 1)
        assert seconds < SHUTDOWN_TIMEOUT + 8, "what a busy machine may take is in it"
        assert PASSWORD not in process.log


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    place = Place(free_port())
    check(tmp_path, {name: (stream(name, place), "refused|Connect call failed") for name in CONNECTORS})


def test_a_server_that_does_not_answer_is_told(tmp_path: Path) -> None:
    silent = "no answer|no server has answered|not answer in time|timed out|timeout|brokers are down"
    with listening() as port:
        check(tmp_path, {name: (stream(name, Place(port)), silent) for name in CONNECTORS})


def test_a_server_that_is_not_to_be_trusted_is_told(tmp_path: Path) -> None:
    names = [name for name in CONNECTORS if not name.startswith(UPGRADING)]
    expected: dict[str, tuple[dict[str, Any], str]] = {}
    with ExitStack() as stack:
        for wrong, (options, is_known, reason) in WRONG.items():
            (folder := tmp_path / wrong).mkdir()
            made = make_certificate(folder, **options)
            port = stack.enter_context(listening(made))
            place = Place(port, tls=True, ca=made.certificate if is_known else None)
            expected |= {f"{name}-{wrong}": (stream(name, place), reason) for name in names}
        check(tmp_path, expected)


OVER_TLS = {
    "clickhouse": ClickhouseServer,
    "influxdb-1": InfluxdbServer,
    "mongodb": MongodbServer,
    "mqtt-output": MosquittoServer,
    "postgres-output": PostgresServer,
    "redis-output": RedisServer,
}


@pytest.mark.parametrize("name", OVER_TLS)
async def test_rows_are_written_over_tls(
    name: str, tmp_path: Path, fault_proxy: Callable[..., FaultProxy], request: pytest.FixtureRequest
) -> None:
    fixture = OVER_TLS[name].__name__.removesuffix("Server").lower()
    server = request.getfixturevalue(f"shared_{fixture}_server")
    made = make_certificate(tmp_path)
    async with fault_proxy(server.port, tls=made.context(), asks=name.startswith("postgres")) as proxy:
        place = Place(
            proxy.port,
            getattr(server, "user", "default" if fixture == "redis" else "penstock"),
            server.password,
            made.certificate,
            tls=True,
        )
        async with lend_context(tmp_path) as context, Output.parse(OUTPUTS[name](place)).open(context) as writer:
            await writer.write([pa.record_batch({"n": [1], "__value__": [b"1"]})])
