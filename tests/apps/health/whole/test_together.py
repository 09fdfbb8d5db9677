"""Uploads at the same time, and replicas beside each other."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from penstock.apps.health.export.plans import MAX_ELEMENTS

from .exports import conserved, date, minutes, shapes, steps
from .service import PATIENCE, Answer, Phone, Service, until

ROUNDS = 12
WIDTH = 60
SECONDS = range(60_000)
"""Of a large upload: it takes many times as long as a small one."""
MOST_BETWEEN = 6 * MAX_ELEMENTS
"""How much of a large upload is stored at most between asking how much it was and the answer to a small one."""
Make = Callable[..., Service]


def _window(chance: random.Random, sent: int, *, back: bool = True) -> dict[str, Any]:
    """Return an export of a window that overlaps others; ``back``: some values are again what they were before."""
    first = chance.randrange(WIDTH)
    points = [(date(minute), chance.choice([minute, sent]) if back else sent) for minute in range(first, first + WIDTH)]
    doubled = [*points, chance.choice(points)]
    chance.shuffle(doubled)
    export: dict[str, Any] = steps(*doubled)
    return export


def test_l12_uploads_of_overlapping_windows_at_the_same_time_end_as_one_after_another(service: Service) -> None:
    """The later id wins wherever two differ, whichever was stored first."""
    phone, chance = service.phone(), random.Random(5)
    phones = [Phone(phone.address, phone.key) for _ in range(3)]
    exports = [[_window(chance, 3 * turn + number) for number in range(3)] for turn in range(ROUNDS)]
    sent: dict[str, Any] = {}
    with ThreadPoolExecutor(3) as pool:
        for turn in exports:
            told = list(pool.map(lambda pair: pair[0].send(pair[1]), zip(phones, turn, strict=True)))
            for one, export in zip(told, turn, strict=True):
                assert conserved(one)["received"] == WIDTH + 1
                assert one["quarantined"] == 0
                sent[one["id"]] = export
    expected: dict[str, float] = {}
    for ingest in sorted(sent):
        for point in sent[ingest]["data"]["metrics"][0]["data"]:
            expected[point["date"]] = point["qty"]
    rows = phone.points("step_count")
    assert {row["original"]["date"]: row["value"] for row in rows} == expected
    assert len(rows) == len(expected)
    ingests = [one["counts"] for one in phone.pages("/api/v1/ingests", limit=100)]
    assert sum(counts["stored"] for counts in ingests) == len(expected)
    updated = sum(counts["updated"] for counts in ingests)  # and in the history is besides what came too late
    assert updated <= len(list(phone.pages("/api/v1/metrics/step_count/history")))
    other = service.phone()
    for ingest in sorted(sent):
        other.send(sent[ingest])
    assert other.points("step_count") == rows
    assert _hours(other) == _hours(phone)


def _hours(phone: Phone) -> Any:
    return phone.get("/api/v1/metrics/step_count/aggregate", by="hour", timezone="Europe/Berlin")["data"]


def test_a_small_upload_is_stored_while_a_large_one_is(service: Service) -> None:
    """Of the same user or of another: it waits for what is being stored and what is next, and for nothing else."""
    phone, other = service.phone(), service.phone()
    points = [
        (f"2026-02-{n // 86400 + 1:02} {n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02} +0100", n) for n in SECONDS
    ]
    large = phone.call("POST", "/api/v1/ingest", json.dumps(steps(*points, name="heart_rate")).encode())
    lists = phone.call("POST", "/api/v1/ingest", json.dumps({"data": {f"k{n}": [{}] for n in range(1_000)}}).encode())
    assert large.status == 202
    for sender in (other, phone):
        before = _received(phone, large)
        assert conserved(sender.send(minutes(0, 1)))["received"] == 1
        assert _received(phone, large) - before <= MOST_BETWEEN
    for promised, count in ((large, len(SECONDS)), (lists, 1_000)):
        assert conserved(phone.outcome(promised.json["id"], seconds=5 * PATIENCE))["received"] == count
    assert len(phone.call("GET", "/api/v1/ingests").content) < 50_000


def _received(phone: Phone, promised: Answer) -> int:
    """Return how many points of an upload are stored by now."""
    answer = phone.call("GET", f"/api/v1/ingest/{promised.json['id']}")
    return int(answer.json["received"]) if answer.status == 200 else 0


def test_many_phones_of_many_users_at_the_same_time(service: Service) -> None:
    def send(number: int) -> None:
        phone = service.phone()
        told = [phone.send(minutes(number * turn, 100)) for turn in range(5)]
        assert sum(conserved(one)["received"] for one in told) == 500
        assert len(phone.points("step_count")) == 100 + 4 * min(number, 100)
        phone.hang_up()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(1, 13)))


@pytest.fixture(scope="module")
def _pair(tmp_path_factory: pytest.TempPathFactory, shared_postgres_server: Any, shared_redis_server: Any) -> Any:
    """Two replicas on one database and one Redis, each with a data folder of its own."""
    url = shared_postgres_server.create_database(postgis=True)
    own = {"PENSTOCK_HEALTH_EXPORT__REQUESTS": "30", "PENSTOCK_HEALTH_EXPORT__ALLOWANCE_REQUESTS": "1"}
    pair = [Service(tmp_path_factory.mktemp("replica"), url, shared_redis_server.url, **own) for _ in range(2)]
    try:
        pair[0].start()
        pair[1].start()
        yield pair
    finally:
        for service in pair:
            service.close()


@pytest.fixture
def replicas(_pair: list[Service]) -> tuple[Phone, Phone]:
    """One who calls both replicas with the same key."""
    phone = _pair[0].phone()
    return phone, Phone(_pair[1].address, phone.key, phone.key_id, phone.user)


def test_limits_are_shared_by_replicas(replicas: tuple[Phone, Phone]) -> None:
    answers = [replicas[turn % 2].call("GET", "/api/v1/export/all") for turn in range(40)]
    assert [answer.status for answer in answers] == [200] * 31 + [429] * 9
    remaining = [int(answer.headers["x-ratelimit-remaining"]) for answer in answers[:30]]
    assert remaining == list(range(29, -1, -1))
    refused = answers[-1]
    assert int(refused.headers["retry-after"]) > 0
    assert refused.json["error"] == "rate_limit_exceeded"


def test_a_revoked_key_ends_at_once_on_all_replicas(replicas: tuple[Phone, Phone]) -> None:
    admin, elsewhere = replicas
    for turn in range(3):
        made = admin.post("/api/v1/auth/keys", {"name": f"tablet {turn}"}, 201)["data"]
        both = [Phone(phone.address, made["key"]) for phone in (admin, elsewhere)]
        assert [phone.call("GET", "/api/v1/me").status for phone in both] == [200, 200]
        assert admin.call("DELETE", f"/api/v1/auth/keys/{made['id']}").status == 200
        assert [phone.call("GET", "/api/v1/me").status for phone in both] == [401, 401]


def test_what_one_replica_took_is_known_at_the_other(replicas: tuple[Phone, Phone]) -> None:
    here, there = replicas
    told = here.send(shapes())
    assert there.outcome(told["id"])["types"] == told["types"]
    big = here.call("POST", "/api/v1/ingest", json.dumps(minutes(0, 20_000)).encode(), prefer="respond-async")
    assert big.status == 202
    until(lambda: there.call("GET", f"/api/v1/ingest/{big.json['id']}").status == 200, "it is announced")
    assert there.outcome(big.json["id"])["stored"] == 20_000
    assert {one["id"] for one in there.get("/api/v1/ingests")["data"]} == {told["id"], big.json["id"]}
    found = there.get(f"/api/v1/jobs/{told['id']}")["data"]
    assert found["status"] == "completed"
    again = there.send(shapes())
    assert (again["duplicate"], conserved(again)["unchanged"]) == (True, told["received"])


def test_overlapping_windows_sent_to_both_replicas_end_as_one_after_another(replicas: tuple[Phone, Phone]) -> None:
    chance, sent = random.Random(8), {}
    with ThreadPoolExecutor(2) as pool:
        for turn in range(6):
            exports = [_window(chance, 2 * turn + number, back=False) for number in range(2)]
            told = pool.map(lambda pair: pair[0].send(pair[1]), zip(replicas, exports, strict=True))
            for one, export in zip(list(told), exports, strict=True):
                conserved(one)
                sent[one["id"]] = export
    expected = {
        point["date"]: point["qty"] for ingest in sorted(sent) for point in sent[ingest]["data"]["metrics"][0]["data"]
    }
    rows = replicas[0].points("step_count")
    assert {row["original"]["date"]: row["value"] for row in rows} == expected


def test_a_key_that_runs_out_works_nowhere(replicas: tuple[Phone, Phone]) -> None:
    admin, elsewhere = replicas
    made = admin.post("/api/v1/auth/keys", {"name": "short", "expires": "2s"}, 201)["data"]
    both = [Phone(phone.address, made["key"]) for phone in (admin, elsewhere)]
    until(lambda: [phone.call("GET", "/api/v1/docs").status for phone in both] and _refused(both), "the key is over")


def _refused(phones: list[Phone]) -> bool:
    return all(phone.call("GET", "/api/v1/me").status == 401 for phone in phones)
