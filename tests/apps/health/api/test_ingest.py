from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock.apps.health import acceptance
from penstock.apps.health.api import accepted as handing_over
from penstock.apps.health.api import ingest as module
from penstock.apps.health.application import _hand_over
from penstock.errors import TransientError
from penstock.platform.access.audit import Entry
from penstock.platform.archive import reception
from penstock.platform.archive.folder import Folder


def raw_files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "health/raw").rglob("*") if path.is_file())


async def send_again(served: Any) -> int:
    """What the service does when it starts; returns how many ingests the stream was handed."""
    before = len(served.stream.taken)
    raw = served.health.raw
    await raw.replay(await asyncio.to_thread(raw.recover), _hand_over)
    return len(served.stream.taken) - before


async def body_of(served: Any, ingest: str) -> bytes:
    def read() -> bytes:
        with served.health.raw.open(served.health.raw.receipt(ingest).raw) as file:
            return bytes(file.read())

    return await asyncio.to_thread(read)


@pytest.mark.parametrize("path", module.PATHS)
async def test_every_alias_takes_an_export(served: Any, export: Any, path: str) -> None:
    answer = await served.client.post(path, json=export)
    assert answer.status_code == 200
    found = answer.json()
    assert (found["received"], found["stored"], found["quarantined"]) == (3, 2, 1)
    assert found["types"]["step_count"] == {"received": 2, "stored": 1, "updated": 0, "unchanged": 0, "quarantined": 1}
    assert found["id"] == found["data"]["raw_ingestion_id"] == served.stream.taken[0].id
    assert await body_of(served, found["id"]) == answer.request.content


async def test_the_body_is_durable_before_the_stream_is_told(
    served: Any, export: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    real_write, real_batch = Folder.write, acceptance.batch

    def write(self: Folder, *given: Any) -> None:
        real_write(self, *given)
        order.append("durable")

    monkeypatch.setattr(Folder, "write", write)
    monkeypatch.setattr(acceptance, "batch", lambda accepted: (order.append("sent"), real_batch(accepted))[1])
    assert (await served.client.post("/api/v1/ingest", json=export)).status_code == 200
    assert order == ["durable", "sent"]


async def test_what_the_app_says_of_a_run_is_kept(served: Any, export: Any) -> None:
    said = {"automation-name": "Daily", "session-id": "A-B", "automation-period": "x" * 1000, "x-other": "no"}
    await served.client.post("/api/v1/ingest", json=export, headers=said)
    accepted = served.stream.taken[0]
    assert accepted.headers == {"automation-name": "Daily", "session-id": "A-B", "automation-period": "x" * 256}
    assert accepted.content_type == "application/json"
    assert (accepted.user, accepted.form, accepted.attempt) == (1, "export", 1)
    assert accepted.sha256 == hashlib.sha256(await body_of(served, accepted.id)).hexdigest()


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("text/csv; charset=utf-8", "csv"),
        ("multipart/form-data; boundary=xyz", "multipart"),
        ("text/plain", "export"),
        ("", "export"),
    ],
)
async def test_the_form_follows_from_the_content_type(served: Any, content_type: str, form: str) -> None:
    answer = await served.client.post("/api/v1/ingest", content=b"--xyz\r\n", headers={"content-type": content_type})
    assert answer.status_code == 400
    accepted = served.stream.taken[0]
    assert accepted.form == form
    assert content_type in (accepted.content_type, "")
    assert await body_of(served, accepted.id) == b"--xyz\r\n"


async def test_a_compressed_body_is_kept_as_it_came(served: Any, export: Any) -> None:
    body = gzip.compress(json.dumps(export).encode())
    answer = await served.client.post("/api/v1/ingest", content=body, headers={"content-encoding": "GZIP"})
    assert answer.json()["received"] == 3
    assert served.stream.taken[0].content_encoding == "gzip"
    assert await body_of(served, answer.json()["id"]) == body


@pytest.mark.parametrize("encoding", ["compress", "gzip, gzip", "x"])
async def test_an_unknown_coding_is_415(served: Any, encoding: str, tmp_path: Path) -> None:
    answer = await served.client.post("/api/v1/ingest", content=b"x", headers={"content-encoding": encoding})
    assert answer.status_code == 415
    assert encoding in answer.json()["message"]
    assert answer.headers["accept-encoding"] == "br, deflate, gzip, zstd"
    assert raw_files(tmp_path) == []


@pytest.mark.parametrize("name", module.DOMAIN_NAMES)
async def test_each_domain_has_a_route(served: Any, name: str) -> None:
    await served.client.post(f"/api/v1/ingest/{name}", json={"data": {}})
    assert served.stream.taken[0].form == f"domain:{name}"


def test_there_are_fourteen_domains() -> None:
    assert len(module.DOMAIN_NAMES) == 14


async def test_an_unknown_domain_names_the_known_ones(served: Any) -> None:
    answer = await served.client.post("/api/v1/ingest/teleportation", json={})
    assert answer.status_code == 404
    assert "blood-glucose" in answer.json()["message"]
    assert served.stream.taken == []


async def test_l4_a_payload_without_points_is_a_success(served: Any) -> None:
    for _ in range(2):
        answer = await served.client.post("/api/v1/ingest", json={"data": {}})
        assert answer.status_code == 200
        found = answer.json()
        assert found["success"] is found["data"]["success"] is True
        assert found["data"]["processing_status"] == "processed"
        assert (found["received"], found["types"], found["errors"]) == (0, {}, [])


async def test_an_empty_body_is_told_so_and_nothing_is_kept(served: Any, tmp_path: Path) -> None:
    answer = await served.client.post("/api/v1/ingest", content=b"")
    assert (answer.status_code, answer.json()["error"]) == (400, "empty_body")
    assert raw_files(tmp_path) == []


@pytest.mark.parametrize("body", [b'{"data": {"metrics": [{"na', b"\x00\xff garbage", b"[]", b"null"])
async def test_l15_an_unreadable_body_is_kept_answered_and_replayable(served: Any, body: bytes) -> None:
    answer = await served.client.post("/api/v1/ingest", content=body)
    assert answer.status_code == 400
    found = answer.json()
    assert (found["success"], found["error"], found["state"]) == (False, "unreadable_body", "failed")
    assert "kept" in found["message"]
    assert await body_of(served, found["id"]) == body
    status = await served.client.get(found["status_url"])
    assert (status.status_code, status.json()["state"], status.json()["success"]) == (200, "failed", True)
    again = await served.client.post(f"/api/v1/ingest/{found['id']}/reprocess")
    assert again.status_code == 202
    assert [accepted.attempt for accepted in served.stream.taken] == [1, 2]


async def test_l5_a_large_body_is_202_once_it_is_durable_and_its_status_is_known(
    serve: Any, settings: Any, export: Any
) -> None:
    async with serve(settings.model_copy(update={"wait_bytes": 10})) as served:
        served.stream.lazy = True
        answer = await served.client.post("/api/v1/ingest", json=export)
        assert answer.status_code == 202
        found = answer.json()
        assert found["data"]["processing_status"] == "accepted_for_processing"
        assert answer.headers["location"] == found["status_url"] == f"/api/v1/ingest/{found['id']}"
        accepted = served.stream.taken[0]
        assert await body_of(served, accepted.id) == answer.request.content
        status = await served.client.get(found["status_url"])
        assert (status.status_code, status.json()["state"], status.json()["received"]) == (200, "accepted", 0)
        await asyncio.to_thread(served.stream.process, accepted)
        status = await served.client.get(found["status_url"])
        assert (status.json()["state"], status.json()["received"], status.json()["stored"]) == ("processed", 3, 2)


async def test_the_answer_waits_only_so_long(serve: Any, settings: Any, export: Any) -> None:
    async with serve(settings.model_copy(update={"wait": 0.05})) as served:
        served.stream.lazy = True
        assert (await served.client.post("/api/v1/ingest", json=export)).status_code == 202


@pytest.mark.parametrize(
    ("path", "prefer", "code"),
    [
        ("", "respond-async", 202),
        ("", "RESPOND-ASYNC, wait=5", 202),
        ("?wait=0", "", 202),
        ("?wait=5", "", 200),
        ("", "wait=5", 200),
        ("", "other", 202),
    ],
)
async def test_the_client_may_say_how_long(
    serve: Any, settings: Any, export: Any, path: str, prefer: str, code: int
) -> None:
    async with serve(settings.model_copy(update={"wait_bytes": 10})) as served:
        answer = await served.client.post(f"/api/v1/ingest{path}", json=export, headers={"prefer": prefer})
        assert answer.status_code == code


@pytest.mark.parametrize("wait", ["-1", "31", "nan", "x"])
async def test_an_impossible_wait_is_refused(served: Any, export: Any, wait: str) -> None:
    answer = await served.client.post(f"/api/v1/ingest?wait={wait}", json=export)
    assert (answer.status_code, answer.json()["error"]) == (400, "validation_error")


async def test_a_body_that_says_it_is_too_large_is_not_read(serve: Any, settings: Any, tmp_path: Path) -> None:
    async with serve(settings.model_copy(update={"max_body_bytes": 1000})) as served:
        answer = await served.client.post("/api/v1/ingest", content=b"x" * 1001)
        assert (answer.status_code, answer.json()["error"], answer.json()["limit"]) == (413, "too_large", 1000)
        assert served.app.state.in_flight.bytes == 0
        assert (await served.client.post("/api/v1/ingest", content=b"x" * 1000)).status_code == 400


async def test_a_body_that_grows_too_large_is_cut_off(serve: Any, settings: Any, tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100_000

    async with serve(settings.model_copy(update={"max_body_bytes": 3_000_000})) as served:
        answer = await served.client.post("/api/v1/ingest", content=chunks())
        assert (answer.status_code, answer.json()["limit"]) == (413, 3_000_000)
        assert raw_files(tmp_path) == []
        assert served.app.state.in_flight.bytes == 0


async def test_too_many_bytes_at_once_are_503(serve: Any, settings: Any, export: Any, tmp_path: Path) -> None:
    async with serve(settings.model_copy(update={"max_accepting_bytes": 10_000})) as served:
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield b" " * 9_900
            arrived.set()
            await go_on.wait()
            yield json.dumps({"data": {}}).encode()

        first = asyncio.create_task(served.client.post("/api/v1/ingest", content=slowly()))
        await arrived.wait()
        while not served.app.state.in_flight.bytes:  # noqa: ASYNC110  (it arrives when the system says so)
            await asyncio.sleep(0.01)
        second = await served.client.post("/api/v1/ingest", json=export)
        assert (second.status_code, second.headers["retry-after"]) == (503, "5")
        go_on.set()
        assert (await first).status_code == 200
        assert served.app.state.in_flight.bytes == 0
        assert (await served.client.post("/api/v1/ingest", json=export)).status_code == 200


async def test_a_client_that_goes_away_leaves_nothing(served: Any, tmp_path: Path) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    key = served.client.headers["authorization"]
    writer.write(
        f"POST /api/v1/ingest HTTP/1.1\r\nHost: a\r\nAuthorization: {key}\r\nContent-Length: 9000000\r\n\r\n".encode()
        + b"x" * 3_000_000
    )
    await writer.drain()
    while not raw_files(tmp_path):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    writer.close()
    while raw_files(tmp_path) or served.app.state.in_flight.bytes:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert served.stream.taken == []


async def test_a_stream_that_refuses_is_503_and_nothing_is_kept(served: Any, export: Any, tmp_path: Path) -> None:
    served.stream.refusal = TransientError("no space in the log")
    answer = await served.client.post("/api/v1/ingest", json=export)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["success"] is False
    assert raw_files(tmp_path) == []
    served.stream.refusal = None
    assert (await served.client.post("/api/v1/ingest", json=export)).status_code == 200


async def test_a_stream_that_does_not_say_is_503_and_the_body_stays(
    served: Any, export: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing_over, "HAND_OVER_TIMEOUT", 0.1)
    served.stream.deaf = True
    answer = await served.client.post("/api/v1/ingest", json=export)
    assert answer.status_code == 503
    assert await body_of(served, answer.json()["id"]) == answer.request.content
    served.stream.deaf = False
    assert await send_again(served) == 1
    assert answer.json()["id"] in [accepted.id for accepted in served.stream.taken]


async def test_l21_what_was_kept_and_not_handed_over_is_resumed_after_a_crash(
    serve: Any, settings: Any, export: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps(export).encode() + b" " * 12_000_000

    class Died(BaseException):
        pass

    async def die(*_: Any) -> None:
        raise Died

    async with serve(settings) as served:
        with monkeypatch.context() as patched:
            patched.setattr(module, "_hand_over", die)
            assert (await served.client.post("/api/v1/ingest", content=body)).status_code == 500
    async with serve(settings) as served:
        assert await send_again(served) == 1
        (accepted,) = served.stream.taken
        assert accepted.bytes == len(body)
        assert (await asyncio.to_thread(served.stream.process, accepted)).counts.received == 3
        assert await send_again(served) == 0


async def test_a_full_disk_is_507(served: Any, export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(reception, "write_all", full)
    answer = await served.client.post("/api/v1/ingest", json=export)
    assert (answer.status_code, answer.json()["error"]) == (507, "storage_full")
    assert raw_files(tmp_path) == []
    assert served.stream.taken == []


async def test_an_ingest_is_audited(served: Any, export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []

    async def begin(row: Entry) -> Any:
        rows.append((row.action, row.resource, row.user_id))
        return asyncio.sleep(0)

    monkeypatch.setattr(served.health.gate.audit, "begin", begin)
    answer = await served.client.post("/api/v1/ingest", json=export)
    assert ("ingest_accepted", answer.json()["id"], 1) in rows


@pytest.mark.parametrize("ingest", ["x", "018cc251-f400-7000-8000-000000000000", "..%2f..%2fetc%2fpasswd"])
async def test_an_unknown_ingest_is_404(served: Any, ingest: str) -> None:
    answer = await served.client.get(f"/api/v1/ingest/{ingest}")
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


async def test_nobody_sees_the_ingest_of_another(served: Any, export: Any) -> None:
    ingest = (await served.client.post("/api/v1/ingest", json=export)).json()["id"]
    for method, path in [
        ("GET", ""),
        ("GET", "/raw"),
        ("POST", "/reprocess"),
    ]:
        answer = await served.client.request(method, f"/api/v1/ingest/{ingest}{path}", headers=served.stranger)
        assert answer.status_code == 404, path
    assert len(served.stream.taken) == 1


async def test_a_key_that_may_only_read_cannot_ingest(served: Any, export: Any) -> None:
    answer = await served.client.post("/api/v1/ingest", json=export, headers=await served.key("read"))
    assert answer.status_code == 403
    answer = await served.client.post("/api/v1/ingest", json=export, headers={"authorization": ""})
    assert (answer.status_code, answer.json()["success"]) == (401, False)
    assert served.stream.taken == []


async def test_many_bodies_at_once_are_all_taken(served: Any, export: Any) -> None:
    answers = await asyncio.gather(*(served.client.post("/api/v1/ingest", json=export) for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == len(served.stream.taken) == 40


async def test_l13_fifty_megabytes_are_acknowledged_fast(served: Any) -> None:
    served.stream.lazy = True
    block = os.urandom(1_000_000)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield block

    began = time.process_time()
    answer = await served.client.post("/api/v1/ingest", content=chunks())
    took = time.process_time() - began
    assert answer.status_code == 202
    assert answer.json()["bytes"] == 50_000_000
    assert took < 5  # about 0.4 s
