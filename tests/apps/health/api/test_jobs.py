from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select

from penstock.apps.health.api.ingests import MAX_TYPES
from penstock.apps.health.schema import quarantine
from penstock.errors import TransientError


async def sent(served: Any, export: Any, count: int = 1) -> list[str]:
    return [(await served.client.post("/api/v1/ingest", json=export)).json()["id"] for _ in range(count)]


async def test_what_arrived_is_listed_newest_first_page_by_page(served: Any, export: Any) -> None:
    made = await sent(served, export, 5)
    first = (await served.client.get("/api/v1/ingests?limit=3")).json()
    second = (await served.client.get("/api/v1/ingests", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [row["id"] for row in first["data"] + second["data"]] == made[::-1]
    assert second["next_cursor"] is None
    row = first["data"][0]
    assert row["state"] == "processed"
    assert row["counts"] == {"received": 3, "stored": 2, "updated": 0, "unchanged": 0, "quarantined": 1}
    assert row["types"]["heart_rate"]["stored"] == 1
    assert row["status_url"] == f"/api/v1/ingest/{row['id']}"


async def test_a_list_of_ingests_counts_only_some_types_by_themselves(served: Any) -> None:
    point = {"date": "2026-02-03 07:15:00 +0100", "qty": 1}
    metrics = [{"name": f"k{n}", "units": "count", "data": [point] * (2 if n == 140 else 1)} for n in range(150)]
    answer = (await served.client.post("/api/v1/ingest", json={"data": {"metrics": metrics}})).json()
    [listed] = (await served.client.get("/api/v1/ingests")).json()["data"]
    assert len(answer["types"]) == 150
    assert len(listed["types"]) == MAX_TYPES + 1
    assert listed["types"]["k140"]["received"] == 2
    assert sum(counts["received"] for counts in listed["types"].values()) == answer["received"] == 151


async def test_ingests_are_listed_by_state(served: Any, export: Any) -> None:
    await sent(served, export)
    await served.client.post("/api/v1/ingest", content=b"garbage")
    failed = (await served.client.get("/api/v1/ingests?state=failed")).json()["data"]
    assert [row["state"] for row in failed] == ["failed"]
    assert failed[0]["error"]
    assert (await served.client.get("/api/v1/ingests?state=lost")).status_code == 400


async def test_what_waits_is_listed_too(serve: Any, settings: Any, export: Any) -> None:
    async with serve(settings.model_copy(update={"wait_bytes": 0})) as served:
        served.stream.lazy = True
        (ingest,) = await sent(served, export)
        async with asyncio.timeout(60):
            while not (rows := (await served.client.get("/api/v1/ingests")).json()["data"]):
                continue
        assert [(row["id"], row["state"]) for row in rows] == [(ingest, "accepted")]


@pytest.mark.parametrize("cursor", ["x", "AAAA", "!!", "a" * 5000])
async def test_a_cursor_that_is_none_is_refused(served: Any, cursor: str) -> None:
    answer = await served.client.get("/api/v1/ingests", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["error"]) == (400, "validation_error")


async def test_a_cursor_is_good_for_its_own_question_only(served: Any, export: Any) -> None:
    await sent(served, export, 2)
    cursor = (await served.client.get("/api/v1/ingests?limit=1")).json()["next_cursor"]
    answer = await served.client.get("/api/v1/quarantine", params={"cursor": cursor})
    assert answer.status_code == 400


async def test_the_body_comes_back_byte_by_byte(served: Any, export: Any) -> None:
    body = gzip.compress(json.dumps(export).encode() + b" " * 3_000_000, compresslevel=0)
    made = await served.client.post("/api/v1/ingest", content=body, headers={"content-encoding": "gzip"})
    answer = await served.client.get(f"/api/v1/ingest/{made.json()['id']}/raw")
    assert answer.status_code == 200
    assert answer.content == body
    assert answer.headers["etag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].endswith('.json.gz"')
    assert answer.headers["content-length"] == str(len(body))


async def test_a_body_that_was_removed_is_gone(served: Any, export: Any) -> None:
    (ingest,) = await sent(served, export)
    (file,) = (served.health.settings.data / "health/raw").rglob(ingest)
    file.unlink()
    answer = await served.client.get(f"/api/v1/ingest/{ingest}/raw")
    assert (answer.status_code, answer.json()["error"]) == (410, "gone")


@pytest.mark.parametrize("path", ["ingest/{}/reprocess", "jobs/{}/retry"])
async def test_a_body_is_processed_again_under_its_id(served: Any, export: Any, path: str) -> None:
    (ingest,) = await sent(served, export)
    served.stream.lazy = True
    answer = await served.client.post(f"/api/v1/{path.format(ingest)}")
    assert answer.status_code == 202
    assert (answer.json()["id"], answer.json()["attempt"], answer.json()["state"]) == (ingest, 2, "accepted")
    assert answer.headers["location"] == f"/api/v1/ingest/{ingest}"
    assert [(accepted.id, accepted.attempt) for accepted in served.stream.taken] == [(ingest, 1), (ingest, 2)]
    status = (await served.client.get(f"/api/v1/ingest/{ingest}")).json()
    assert (status["state"], status["attempt"]) == ("accepted", 2)
    await asyncio.to_thread(served.stream.process, served.stream.taken[1])
    status = (await served.client.get(f"/api/v1/ingest/{ingest}")).json()
    assert (status["state"], status["attempt"], status["received"]) == ("processed", 2, 3)


async def test_an_attempt_that_the_stream_refuses_is_taken_back(served: Any, export: Any) -> None:
    (ingest,) = await sent(served, export)
    served.stream.refusal = TransientError("no space in the log")
    answer = await served.client.post(f"/api/v1/ingest/{ingest}/reprocess")
    assert answer.status_code == 503
    status = (await served.client.get(f"/api/v1/ingest/{ingest}")).json()
    assert (status["state"], status["attempt"]) == ("processed", 1)
    assert await asyncio.to_thread(served.health.raw.recover) == []


async def test_a_key_that_may_only_read_changes_nothing(served: Any, export: Any) -> None:
    (ingest,) = await sent(served, export)
    reading = await served.key("read")
    for method, path in [
        ("POST", f"ingest/{ingest}/reprocess"),
        ("POST", "quarantine/1/retry"),
        ("POST", f"jobs/{ingest}/retry"),
        ("DELETE", f"jobs/{ingest}"),
        ("DELETE", f"data/{ingest}"),
    ]:
        assert (await served.client.request(method, f"/api/v1/{path}", headers=reading)).status_code == 403, path


async def test_quarantined_points_are_listed_and_retried(served: Any, export: Any) -> None:
    (ingest,) = await sent(served, export)
    (point,) = (await served.client.get("/api/v1/quarantine")).json()["data"]
    assert {name: point[name] for name in ("ingest", "type", "index", "path", "payload")} == {
        "ingest": ingest,
        "type": "step_count",
        "index": 1,
        "path": "data.metrics[0].data[1]",
        "payload": {"bad": True},
    }
    assert point["reason"]
    assert point["resolved_at"] is None
    answer = await served.client.post(f"/api/v1/quarantine/{point['id']}/retry")
    assert (answer.status_code, answer.json()["id"]) == (202, ingest)
    assert served.stream.taken[-1].attempt == 2


async def test_resolved_points_are_listed_when_asked_for(served: Any, export: Any) -> None:
    await sent(served, export, 2)
    first = select(func.min(quarantine.c.id)).scalar_subquery()
    resolved = quarantine.update().where(quarantine.c.id == first).values(resolved_at=datetime.now(UTC))
    await served.health.database.run(lambda connection: connection.execute(resolved))
    assert len((await served.client.get("/api/v1/quarantine")).json()["data"]) == 1
    assert len((await served.client.get("/api/v1/quarantine?open=false")).json()["data"]) == 2
    page = (await served.client.get("/api/v1/quarantine?open=false&limit=1")).json()
    rest = (
        await served.client.get("/api/v1/quarantine", params={"open": "false", "cursor": page["next_cursor"]})
    ).json()
    assert len({point["id"] for point in page["data"] + rest["data"]}) == 2


@pytest.mark.parametrize("point", ["999", "0", "-1", "x", "99999999999999999999"])
async def test_a_point_that_is_not_there_cannot_be_retried(served: Any, point: str) -> None:
    assert (await served.client.post(f"/api/v1/quarantine/{point}/retry")).status_code in (400, 404)


async def test_nobody_sees_the_jobs_of_another(served: Any, export: Any) -> None:
    (ingest,) = await sent(served, export)
    point = (await served.client.get("/api/v1/quarantine")).json()["data"][0]["id"]
    for path in ("ingests", "quarantine", "jobs"):
        assert (await served.client.get(f"/api/v1/{path}", headers=served.stranger)).json()["data"] == []
    for method, path in [
        ("GET", f"jobs/{ingest}"),
        ("POST", f"jobs/{ingest}/retry"),
        ("DELETE", f"jobs/{ingest}"),
        ("DELETE", f"data/{ingest}"),
        ("POST", f"quarantine/{point}/retry"),
    ]:
        assert (await served.client.request(method, f"/api/v1/{path}", headers=served.stranger)).status_code == 404
    assert (await served.client.get("/api/v1/jobs/stats", headers=served.stranger)).json()["data"]["total"] == 0
    assert len(served.stream.taken) == 1


async def test_ingests_are_jobs(served: Any, export: Any) -> None:
    (ingest,) = await sent(served, export)
    await served.client.post("/api/v1/ingest", content=b"garbage")
    listed = (await served.client.get("/api/v1/jobs")).json()["data"]
    assert [job["status"] for job in listed] == ["failed", "completed"]
    job = (await served.client.get(f"/api/v1/jobs/{ingest}")).json()["data"]
    assert job == listed[1]
    assert (job["type"], job["counts"]["stored"]) == ("ingest", 2)
    stats = (await served.client.get("/api/v1/jobs/stats")).json()["data"]
    assert stats == {"queued": 0, "processing": 0, "completed": 1, "failed": 1, "total": 2}


async def test_a_job_that_waits_is_queued(serve: Any, settings: Any, export: Any) -> None:
    async with serve(settings.model_copy(update={"wait_bytes": 0})) as served:
        served.stream.lazy = True
        (ingest,) = await sent(served, export)
        job = (await served.client.get(f"/api/v1/jobs/{ingest}")).json()["data"]
        assert (job["status"], job["completed_at"]) == ("queued", None)


async def test_what_was_accepted_cannot_be_cancelled(served: Any, export: Any) -> None:
    (ingest,) = await sent(served, export)
    answer = await served.client.delete(f"/api/v1/jobs/{ingest}")
    assert (answer.status_code, answer.json()["error"]) == (409, "conflict")
    assert "never dropped" in answer.json()["message"]
    assert (await served.client.get(f"/api/v1/ingest/{ingest}/raw")).status_code == 200
