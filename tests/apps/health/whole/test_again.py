"""From the stored bodies the same tables are made again: ingest by ingest, and as a whole."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest

from .exports import SAMPLES, conserved, edge_cases, minutes, shapes, shuffled
from .service import Phone, Service
from .tables import dump, number_of_points, query

Make = Callable[..., Service]


def send_all(phone: Phone) -> list[str]:
    """Send every sample, and what revises them; return the ids."""
    bodies = [path.read_bytes() for path in sorted(SAMPLES.glob("*/*.json"))]
    told = [phone.send(body) for body in bodies]
    told += [phone.send(export) for _, export in edge_cases()]
    told += [phone.send(minutes(0, 300)), phone.send(minutes(100, 300, qty=3)), phone.send(shuffled(shapes()))]
    told += [phone.send(gzip.compress(b'{"data":{}}'), content_encoding="gzip"), phone.send(b"garbage")]
    return [one["id"] for one in told]


def test_l1_everything_received_is_in_the_tables_or_in_quarantine(service: Service) -> None:
    phone = service.phone()
    ingests = send_all(phone)
    outcomes = [phone.outcome(ingest) for ingest in ingests]
    total = {name: sum(conserved(told)[name] for told in outcomes) for name in conserved(outcomes[0])}
    assert total["received"] > 1000
    held = list(phone.pages("/api/v1/quarantine", limit=100))
    assert total["quarantined"] == len(held)
    stored = phone.stored()
    assert total["stored"] == sum(map(len, stored.values())) == number_of_points(service, phone.user)
    assert {name: len(rows) for name, rows in stored.items()} == {
        name: metric["count"] for name, metric in phone.metrics().items()
    }
    whose = f"user_id = {service.user_ids[phone.user]}"
    assert query(service, f"SELECT count(*) FROM health_history WHERE {whose}") == [(total["updated"],)]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_ingest_and_all_of_them_processed_again_give_the_same_tables(
    serve: Make, postgis_database: str, database: str
) -> None:
    service = serve(postgis_database if database == "postgresql" else None).start()
    phone, other = service.phone(), service.phone()
    ingests = send_all(phone)
    other.send(shapes())
    before, outcomes = dump(service), {ingest: phone.outcome(ingest) for ingest in ingests}
    assert len(before["health_points"]) > 500
    for ingest in ingests:
        again = phone.post(f"/api/v1/ingest/{ingest}/reprocess", status=202)
        assert (again["attempt"], again["state"]) == (2, "accepted")
    for ingest, first in outcomes.items():
        told = phone.outcome(ingest, attempt=2)
        counts = conserved(told)
        assert (told["state"], counts["received"]) == (first["state"], first["received"])
        assert (counts["stored"], counts["quarantined"]) == (0, first["quarantined"])
    after = dump(service)
    assert {name for name in after if after[name] != before[name]} <= {"health_history"}
    assert set(after["health_history"]) >= set(before["health_history"])  # and what is confirmed, and replaced since
    open_ones = query(service, "SELECT count(*) FROM health_quarantine WHERE resolved_at IS NULL")
    assert open_ones == [(sum(told["quarantined"] for told in outcomes.values()),)]
    refused = service.command("health", "rebuild", "--yes")
    assert (refused.returncode, "in use by another process" in refused.stderr) == (1, True)
    assert dump(service) == after
    phone.hang_up()
    other.hang_up()
    assert service.end() == 0
    done = service.command("health", "rebuild", "--yes")
    assert done.returncode == 0, done.stderr
    assert f"{len(ingests) + 1} bodies" in done.stdout + done.stderr
    after = dump(service)
    assert {name for name in after if after[name] != before[name]} == set()
    service.start()
    for ingest, first in outcomes.items():
        told = phone.outcome(ingest)
        assert {name: told[name] for name in conserved(told)} == {name: first[name] for name in conserved(first)}
        assert told["state"] == first["state"]
    assert phone.send(b"garbage")["received"] == 0
    assert other.send(shapes())["duplicate"]


def test_a_quarantined_point_is_tried_again(service: Service) -> None:
    phone = service.phone()
    [bad] = [export for name, export in edge_cases() if name == "bad points among good"]
    told = phone.send(bad)
    held = phone.get("/api/v1/quarantine")["data"]
    again = phone.post(f"/api/v1/quarantine/{held[0]['id']}/retry", status=202)
    assert again["id"] == told["id"]
    after = phone.outcome(told["id"], attempt=2)
    assert (after["quarantined"], conserved(after)["unchanged"]) == (len(held), told["stored"])
    anew = phone.get("/api/v1/quarantine")["data"]
    assert {(point["path"], point["reason"]) for point in anew} == {(point["path"], point["reason"]) for point in held}
    everything = phone.get("/api/v1/quarantine", open="false")["data"]
    assert len(everything) == 2 * len(held)
    assert sum(point["resolved_at"] is not None for point in everything) == len(held)


def test_what_is_deleted_is_gone_and_what_it_had_replaced_comes_back(service: Service) -> None:
    phone = service.phone()
    first, second = phone.send(minutes(0, 50)), phone.send(minutes(25, 50, qty=1000))
    before = phone.points("step_count")[:25]
    deleted = phone.call("DELETE", f"/api/v1/data/{second['id']}")
    assert deleted.status == 200
    assert deleted.json["data"]["reprocessed"] == [first["id"]]
    phone.outcome(first["id"], attempt=2)
    rows = phone.points("step_count")
    assert [row["value"] for row in rows] == list(range(50))
    assert rows[:25] == before
    assert phone.call("GET", f"/api/v1/ingest/{second['id']}").status == 404
    assert phone.call("GET", f"/api/v1/ingest/{second['id']}/raw").status == 404


def test_the_folder_of_raw_bodies_holds_what_was_sent_byte_for_byte(on_sqlite: Service) -> None:
    phone = on_sqlite.phone()
    for path in sorted(SAMPLES.glob("*/*.json")):
        told = phone.send(path.read_bytes())
        [kept] = (on_sqlite.data / "health" / "raw").rglob(told["id"])
        assert kept.read_bytes() == path.read_bytes()
        assert kept.stat().st_mode & 0o077 == 0
