"""What the service stands on fails while phones send: what was promised is kept, and nobody is told a fault of ours."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import count, product
from pathlib import Path
from typing import Any

import psycopg
import pytest

from penstock.testing.servers import PostgresServer, RedisServer

from .exports import conserved, minutes, steps
from .service import Answer, Phone, Service, until

POINTS = 40
Make = Callable[..., Service]


class Sender(threading.Thread):
    """A phone that sends windows which nobody sent before, one after another, until it is told to stop."""

    def __init__(self, phone: Phone, number: int) -> None:
        super().__init__(daemon=True)
        self._phone, self._number = Phone(phone.address, phone.key), number
        self._ended = threading.Event()
        self.answers: list[tuple[Answer, int]] = []
        """What was answered, and the first minute of the window."""
        self.cut = 0
        """How often the connection broke before there was an answer."""

    def run(self) -> None:
        for sent in count():
            if self._ended.is_set():
                break
            first = (sent * POINTS) % 40_000
            body = json.dumps(minutes(first, POINTS, source=f"{self._number}-{sent}")).encode()
            try:
                answer = self._phone._exchange("POST", "/api/v1/ingest", body, self._headers())
            except OSError:
                self.cut += 1
                time.sleep(0.02)
            else:
                self.answers.append((answer, first))
        self._phone.hang_up()

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._phone.key}", "content-type": "application/json"}

    def stop(self) -> None:
        """End it and wait until it has ended."""
        self._ended.set()
        self.join(60)
        assert not self.is_alive()

    @property
    def promised(self) -> list[str]:
        """The ids of what was answered with 200 or 202."""
        return [answer.json["id"] for answer, _ in self.answers if answer.status in (200, 202)]


@pytest.fixture
def senders() -> Iterator[Callable[[Phone, int], list[Sender]]]:
    """Start phones that send at once; they are stopped after the test."""
    started: list[Sender] = []

    def start(phone: Phone, number: int) -> list[Sender]:
        started.extend(Sender(phone, n) for n in range(number))
        for sender in started:
            sender.start()
        return started

    yield start
    for sender in started:
        sender.stop()


def check_promises(phone: Phone, promised: list[str]) -> None:
    """Check that all that was promised is stored, once, and counted."""
    for ingest in promised:
        told = phone.outcome(ingest)
        assert (told["state"], conserved(told)["stored"]) == ("processed", POINTS), told
    assert len(set(promised)) == len(promised)


def test_postgresql_goes_and_comes_back_while_phones_send(
    serve: Make, senders: Callable[[Phone, int], list[Sender]], postgres_server: PostgresServer
) -> None:
    service = serve(postgres_server.create_database(postgis=True), PENSTOCK_HEALTH_WAIT="300ms").start()
    phone = service.phone()
    phone.send(minutes(0, 1))
    sending = senders(phone, 3)
    until(lambda: all(sender.answers for sender in sending), "phones send")
    postgres_server.kill()
    before = [len(sender.answers) for sender in sending]
    until(
        lambda: all(len(sender.answers) > old + 3 for sender, old in zip(sending, before, strict=True)),
        "phones send while the database is away",
    )
    assert service.probe() == 503
    assert service.probe("/health/live") == 200
    assert phone.call("GET", "/api/v1/metrics").status == 503
    postgres_server.start()
    until(lambda: service.probe() == 200, "the service is ready again")
    before = [len(sender.answers) for sender in sending]
    until(
        lambda: all(len(sender.answers) > old + 1 for sender, old in zip(sending, before, strict=True)),
        "phones send after the database came back",
    )
    for sender in sending:
        sender.stop()
    statuses = [answer.status for sender in sending for answer, _ in sender.answers]
    assert set(statuses) <= {200, 202}
    assert statuses.count(202) >= 9
    promised = [ingest for sender in sending for ingest in sender.promised]
    check_promises(phone, promised)
    summary = phone.metrics()["step_count"]
    assert summary["count"] == 1 + POINTS * len(promised) == len(phone.points("step_count"))
    assert phone.get("/api/v1/quarantine")["data"] == []


def test_redis_goes_and_comes_back_while_phones_send(
    serve: Make, senders: Callable[[Phone, int], list[Sender]], redis_server: RedisServer
) -> None:
    service = serve(None, redis_server.url).start()
    phone = service.phone()
    phone.send(minutes(0, 1))
    sending = senders(phone, 2)

    def sends_on(more: int = 5) -> None:
        before = [len(sender.answers) for sender in sending]
        until(
            lambda: all(len(sender.answers) >= old + more for sender, old in zip(sending, before, strict=True)),
            "phones send on",
        )

    sends_on()
    redis_server.kill()
    sends_on()
    until(lambda: phone.get("/api/v1/status")["data"]["status"] == "degraded", "the status says that Redis is away")
    assert service.probe() == 200
    redis_server.start()
    until(lambda: phone.get("/api/v1/status")["data"]["status"] == "ready", "the status says that Redis is back")
    sends_on()
    for sender in sending:
        sender.stop()
        assert {answer.status for answer, _ in sender.answers} <= {200, 202}
    check_promises(phone, [ingest for sender in sending for ingest in sender.promised])


def _raw_files(service: Service) -> list[Path]:
    return sorted(path for path in (service.data / "health" / "raw").rglob("*") if path.is_file())


def test_a_connection_cut_in_an_upload_leaves_no_trace(serve: Make) -> None:
    service = serve().start()
    phone = service.phone()
    body = json.dumps(minutes(0, 40_000)).encode()
    assert len(body) > 2_500_000  # it is written megabyte by megabyte
    for chunked, part in product((False, True), (0, 1000, len(body) // 2, len(body) - 1)):
        length = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
        head = f"POST /api/v1/ingest HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {phone.key}\r\n{length}\r\n\r\n"
        with closing(socket.create_connection(("127.0.0.1", service.port))) as connection:
            piece = body[:part]
            framed = b"%x\r\n%s\r\n" % (len(piece), piece) if chunked and piece else piece
            connection.sendall(head.encode() + framed)
            if part > 500_000:
                until(lambda: _raw_files(service), "the body arrives")
    until(lambda: not _raw_files(service), "what had arrived is gone")
    assert phone.get("/api/v1/ingests")["data"] == []
    assert phone.metrics() == {}
    told = phone.send(body)
    assert conserved(told)["stored"] == 40_000


def test_a_slow_upload_is_taken_and_holds_nobody_up(service: Service) -> None:
    phone, other = service.phone(), service.phone()
    body = json.dumps(minutes(0, POINTS)).encode()
    head = (
        f"POST /api/v1/ingest HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {phone.key}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    size = len(body) // 12 + 1
    with closing(socket.create_connection(("127.0.0.1", service.port), timeout=60)) as connection:
        connection.sendall(head.encode())
        for begin in range(0, len(body), size):
            connection.sendall(body[begin : begin + size])
            assert conserved(other.send(minutes(begin, 2)))["stored"] == 2
        with closing(connection.makefile("rb")) as answer:
            status, *_, told = answer.read().split(b"\r\n")
    assert b" 200 " in status + b" "
    assert json.loads(told)["stored"] == POINTS


def test_asked_to_end_while_phones_send_it_ends_in_good_order(
    serve: Make, senders: Callable[[Phone, int], list[Sender]]
) -> None:
    service = serve().start()
    phone = service.phone()
    sending = senders(phone, 4)
    big = json.dumps(minutes(0, 16_000, source="big")).encode()
    promised = []
    for _ in range(2):
        until(lambda: all(len(sender.answers) > 3 for sender in sending), "phones send")
        answer = phone.call("POST", "/api/v1/ingest", big, content_type="application/json")
        assert answer.status == 202
        promised.append(answer.json["id"])
        assert service.end() == 0, service.log[-3000:]
        phone.hang_up()
        assert " 499 " not in service.log, "somebody was not answered"
        assert "could not be written" not in service.log
        service.start()
    for sender in sending:
        sender.stop()
    statuses = {answer.status for sender in sending for answer, _ in sender.answers}
    assert statuses <= {200, 202, 503}
    check_promises(phone, [ingest for sender in sending for ingest in sender.promised])
    told = [phone.outcome(ingest) for ingest in promised]
    assert sorted((one["stored"], one["unchanged"]) for one in told) == [(0, 16_000), (16_000, 0)]
    assert len(phone.points("step_count", source="big")) == 16_000


REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.value = 13 THEN RAISE EXCEPTION 'the disk of the table is full' USING ERRCODE = '{code}'; END IF;
RETURN NEW; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON health_compact_points FOR EACH ROW EXECUTE FUNCTION refuse()
"""


def test_l3_what_the_database_refuses_is_not_called_processed(serve: Make, postgis_database: str) -> None:
    service = serve(postgis_database, PENSTOCK_HEALTH_WAIT="1s").start()
    for code, state in (("53100", "accepted"), ("22000", "failed")):
        _check_refusal(service, code, state)


def _check_refusal(service: Service, code: str, state: str) -> None:
    phone = service.phone()
    phone.send(steps(("2026-02-01 00:00:00 +0000", 1)))
    with psycopg.connect(service.database_url) as connection:
        connection.execute("SET search_path = health, public")
        connection.execute(REFUSE.format(code=code))
    told = phone.post("/api/v1/ingest", minutes(0, POINTS), None)
    found = until(lambda: _in_state(phone, told["id"], state), f"the ingest is {state}")
    assert (found["stored"], found["received"]) == (0, 0)
    assert len(phone.points("step_count")) == 1
    assert service.probe() == 200
    with psycopg.connect(service.database_url) as connection:
        connection.execute("SET search_path = health, public")
        connection.execute("DROP FUNCTION refuse CASCADE")
    attempt = 1
    if state == "failed":
        assert "full" in found["message"]
        attempt = phone.post(f"/api/v1/ingest/{told['id']}/reprocess", status=202)["attempt"]
    assert conserved(phone.outcome(told["id"], attempt))["stored"] == POINTS
    assert conserved(phone.send(minutes(100, 2)))["stored"] == 2


def _in_state(phone: Phone, ingest: str, state: str) -> Any:
    told = phone.get(f"/api/v1/ingest/{ingest}")
    assert told["state"] != "processed"
    return told if told["state"] == state else None


def _with_little_room(service: Service) -> int:
    """Let the service have room for a megabyte of bodies, and return how a body is answered that has no room.

    Where nobody may mount, no file of the process can be larger than two.
    """
    folder = service.data / "health" / "raw"
    folder.mkdir(parents=True)
    mount = f'mount -t tmpfs -o size=1m,mode=700 none {folder} && exec "$@"'
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        within = [*unshare, "sh", "-c", mount, "sh"]
        if (
            shutil.which("unshare")
            and subprocess.run([*within, "true"], capture_output=True, check=False).returncode == 0
        ):
            service.within = within
            return 507
    service.within = ["sh", "-c", 'ulimit -f 4096 && exec "$@"', "sh"]
    return 503


def test_without_room_for_a_body_nothing_of_it_is_kept(serve: Make) -> None:
    service = serve()
    refused = _with_little_room(service)
    service.start()
    phone = service.phone()
    first = phone.send(minutes(0, POINTS))
    big = json.dumps(minutes(0, 40_000)).encode()
    for _ in range(2):
        told = phone.call("POST", "/api/v1/ingest", big)
        assert told.status == refused
        assert told.json["message"]
        assert int(told.headers["retry-after"]) > 0
    chunked = http.client.HTTPConnection(service.address, timeout=60)
    with closing(chunked):
        pieces = (big[begin : begin + 100_000] for begin in range(0, len(big), 100_000))
        with suppress(ConnectionResetError, BrokenPipeError):  # it may have hung up before all of it was sent
            chunked.request("POST", "/api/v1/ingest", pieces, {"authorization": f"Bearer {phone.key}"})
            assert chunked.getresponse().status == refused
    second = phone.send(minutes(POINTS, POINTS))
    assert conserved(second)["stored"] == POINTS
    assert {one["id"] for one in phone.get("/api/v1/ingests")["data"]} == {first["id"], second["id"]}
    assert len(phone.points("step_count")) == 2 * POINTS
    assert service.process is not None
    raw = Path(f"/proc/{service.process.pid}/root{service.data.resolve()}/health/raw")
    kept = until(lambda: [path for path in raw.rglob("*") if path.is_file()], "files of bodies")
    assert {path.stem for path in kept} == {first["id"], second["id"]}
