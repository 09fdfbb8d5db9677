"""Bodies that are broken or made to do harm: kept, answered clearly, replayable, and never the end of the service."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from benchmarks import exports as real

from .exports import conserved, date, minutes, steps
from .service import Phone, Service

WHOLE = json.dumps(minutes(0, 40)).encode()
UNREADABLE = {
    "truncated": WHOLE[: len(WHOLE) // 2],
    "only the beginning": b"{",
    "a text": b"hello",
    "blanks": b"  \n ",
    "a number": b"1",
    "null": b"null",
    "binary": bytes(range(256)) * 20,
    "not UTF-8": WHOLE.replace(b"Watch", b"\xff\xfe", 1),
    "two documents": WHOLE + WHOLE,
    "nested a million times": b"[" * 1_000_000,
    "nested and closed": b'{"data":' * 50_000 + b"{}" + b"}" * 50_000,
    "cut gzip": gzip.compress(WHOLE)[:-20],
    "a page": b"<html><body>502 Bad Gateway</body></html>",
}
"""Of these nothing can be read."""


def _point(value: bytes, key: bytes = b"qty") -> bytes:
    point = b'{"date":"2026-02-03 07:15:00 +0100","%s":%s}' % (key, value)
    good = b'{"date":"2026-02-03 07:16:00 +0100","qty":1}'
    return b'{"data":{"metrics":[{"name":"step_count","units":"count","data":[%s,%s]}]}}' % (point, good)


def _dated(text: str) -> bytes:
    return json.dumps(steps((text, 1), (date(1), 1))).encode()


HARMFUL = {
    "1e999": _point(b"1e999"),
    "a number of ten thousand digits": _point(b"1" * 10_000),
    "NaN": _point(b"NaN"),
    "NUL in a text": _point(b'"\\u0000"', b"source"),
    "NUL in a key": _point(b"1", b"\\u0000"),
    "lone surrogate": _point(b'"\\ud800"', b"source"),
    "lone surrogate in a key": _point(b"1", b"\\udfff"),
    "duplicate keys": _point(b'1,"qty":2,"qty":3'),
    "deep nesting in a point": _point(b"[" * 200 + b"]" * 200),
    "a text of two megabytes": _point(b'"' + b"x" * 2_000_000 + b'"', b"source"),
    "a list for a source": _point(b'["a",{"b":null}]', b"source"),
    "year 9999": _dated("9999-12-31 23:59:59 -1200"),
    "year 0001": _dated("0001-01-01 00:00:00 +1400"),
    "year 0": _dated("0000-01-01 00:00:00 +0000"),
    "the thirtieth of February": _dated("2026-02-30 00:00:00 +0000"),
    "an offset of a hundred hours": _dated("2026-02-03 00:00:00 +9959"),
    "a date of digits": _dated("9" * 500),
    "SQL": _dated("'; DROP TABLE health_points; --"),
    "a name of a megabyte": json.dumps(steps((date(0), 1), (date(1), 1), name="n" * 1_000_000)).encode(),
    "a name of nothing": json.dumps(steps((date(0), 1), (date(1), 1), name="")).encode(),
    "a name that is a path": json.dumps(steps((date(0), 1), (date(1), 1), name="../../etc/%00\u202e")).encode(),
    "sections of wrong types": b'{"data":{"metrics":{"a":1,"b":"x"},"workouts":7,"ecg":{},"symptoms":[[],"x",null,1]}}',
    "a workout of garbage": b'{"data":{"workouts":[{"id":{},"name":[],"start":7,"route":{"a":1},"stepCount":"x"}]}}',
    "places off the earth": (
        b'{"data":{"workouts":[{"id":"w","name":"Run","start":"2026-02-03 07:15:00 +0100","end":'
        b'"2026-02-03 07:25:00 +0100","route":[{"latitude":91,"longitude":500,"timestamp":"2026-02-03 07:15:00 +0100"},'
        b'{"latitude":1,"longitude":2,"timestamp":"2026-02-03 07:16:00 +0100"}]}]}}'
    ),
}
"""Of these at least the form can be read: each point is stored or quarantined."""


def _retried(phone: Phone, told: Any) -> Any:
    phone.post(f"/api/v1/ingest/{told['id']}/reprocess", status=202)
    return phone.outcome(told["id"], told["attempt"] + 1)


@pytest.mark.parametrize("name", UNREADABLE)
def test_l15_an_unreadable_body_is_kept_refused_with_a_reason_and_replayable(on_sqlite: Service, name: str) -> None:
    phone, body = on_sqlite.phone(), UNREADABLE[name]
    coding = {"content_encoding": "gzip"} if "gzip" in name else {}
    answer = phone.call("POST", "/api/v1/ingest", body, content_type="application/json", **coding)
    told = answer.json
    assert (answer.status, told["success"], told["state"]) == (400, False, "failed")
    assert told["message"]
    assert conserved(told)["received"] == 0
    assert phone.call("GET", f"/api/v1/ingest/{told['id']}/raw").content == body
    again = _retried(phone, told)
    assert (again["state"], again["message"]) == ("failed", told["message"])
    assert phone.metrics() == {}


@pytest.mark.parametrize("name", HARMFUL)
def test_l15_what_is_harmful_is_stored_or_quarantined_and_the_rest_is_stored(service: Service, name: str) -> None:
    phone, body = service.phone(), HARMFUL[name]
    told = phone.send(body)
    counts = conserved(told)
    if told["state"] == "failed":
        assert counts["received"] == 0
        assert told["message"]
    else:
        assert counts["received"] > 0
        held = list(phone.pages("/api/v1/quarantine", limit=500))
        assert len(held) == counts["quarantined"]
        assert all(point["reason"] for point in held)
        found = phone.stored()
        assert sum(map(len, found.values())) == counts["stored"]
    assert phone.call("GET", f"/api/v1/ingest/{told['id']}/raw").content == body
    again = _retried(phone, told)
    assert again["state"] == told["state"]
    assert again["received"] == told["received"]
    assert again["quarantined"] == told["quarantined"]
    assert conserved(again)["unchanged"] == told["stored"] + told["unchanged"]


def test_an_empty_body_is_refused(phone: Phone) -> None:
    assert phone.post("/api/v1/ingest", b"", 400)["error"] == "empty_body"
    assert phone.get("/api/v1/ingests")["data"] == []


def test_l4_nothing_in_a_body_is_a_success(phone: Phone) -> None:
    for body in ({}, {"data": {}}, {"data": {"metrics": []}}, {"data": {"metrics": [], "workouts": []}}):
        told = phone.send(body)
        assert (told["state"], told["success"], conserved(told)["received"]) == ("processed", True, 0)


def test_a_gzip_bomb_is_refused_once_it_is_too_large(on_sqlite: Service) -> None:
    phone = on_sqlite.phone()
    bomb = gzip.compress(b'{"data":{"metrics":[' + b" " * 250_000_000, 6)
    assert len(bomb) < 1_000_000
    told = phone.send(bomb, content_encoding="gzip", prefer="wait=30")
    assert told["state"] == "failed"
    assert "200000000" in told["message"]


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(phone: Phone) -> None:
    told = phone.call("POST", "/api/v1/ingest", b"{}", content_length="300000000", connection="close")
    assert told.status == 413
    assert told.json["limit"] == 200_000_000


def test_very_many_names_of_metrics_are_all_stored(on_sqlite: Service) -> None:
    phone, count = on_sqlite.phone(), 4_000
    at = date(0)
    metrics = [{"name": f"m{number}", "units": "count", "data": [{"date": at, "qty": 1}]} for number in range(count)]
    told = phone.send({"data": {"metrics": metrics}}, prefer="wait=30")
    assert conserved(told)["stored"] == count
    assert len(phone.metrics()) == count


def test_one_bad_point_in_a_payload_like_a_real_one_costs_nothing_else(phone: Phone) -> None:
    export = real.export(days=1)
    count = real.count(export)
    export["data"]["metrics"][0]["data"][17] = {"date": "yesterday", "qty": 1}
    told = phone.send(export)
    assert conserved(told) == {"received": count, "stored": count - 1, "updated": 0, "unchanged": 0, "quarantined": 1}
    [held] = phone.get("/api/v1/quarantine")["data"]
    assert (held["index"], held["path"]) == (17, "data.metrics[0].data[17]")


def test_the_service_is_well_after_all_that(service: Service) -> None:
    assert service.probe() == 200
    assert not [line for line in service.log.splitlines() if "Traceback" in line or "[error" in line]


def test_very_many_values_of_one_second_are_all_kept(service: Service) -> None:
    """The last of each place stays in the table, the others are in the history."""
    phone, count, at = service.phone(), 20_000, date(0)
    told = phone.send(steps(*((at, number) for number in range(count))))
    counts = conserved(told)
    assert counts["stored"] + counts["updated"] == count
    rows = phone.points("step_count")
    history = list(phone.pages("/api/v1/metrics/step_count/history", limit=10_000))
    assert (len(rows), len(history)) == (counts["stored"], counts["updated"])
    assert sorted(row["value"] for row in rows + history) == list(range(count))
