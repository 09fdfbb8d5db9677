"""A person takes everything home, and deletes a point, a time, or everything."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import select

from penstock.apps.health.schema import ingests, metadata, points, quarters
from penstock.apps.health.settings import Settings

from .conftest import serving
from .reader import ME, MODULES, STRANGER, Reader, at, point

_FILES = (("export/all", "json"), ("export/all", "csv"), ("export/step_count", "parquet"))


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "sqlite":
        return Settings(data=tmp_path, database_url=f"sqlite:///{tmp_path}/a.db", wait="2s")  # type: ignore[arg-type]
    url = request.getfixturevalue("postgis_database")
    return Settings(data=tmp_path, database_url=url, wait="2s")  # type: ignore[arg-type]


@pytest.fixture
async def reader(settings: Settings) -> AsyncIterator[Reader]:
    async with serving(settings, ("ingest", "ingests", "quarantine", "jobs", *MODULES, "owning")) as served:
        yield Reader(served)


def steps() -> list[dict[str, Any]]:
    said = ((0, "Watch", 100.0), (0, "iPhone", 90.0), (5, "iPhone", 7.0), (20, "Watch", 3.0))
    mine = [point("step_count", at(minute), value, source=source, unit="count") for minute, source, value in said]
    return [*mine, point("step_count", at(0), 1.0, user=STRANGER, unit="count")]


async def total(reader: Reader) -> float:
    days = await reader.data("/api/v1/metrics/step_count/aggregate")
    return float(sum(day["sum"] for day in days))


async def test_a_point_and_a_time_are_deleted_and_counted_anew(reader: Reader) -> None:
    await reader.store((points, steps()))
    client, path = reader.served.client, "/api/v1/metrics/step_count"
    only = {"start": at(0).isoformat(), "end": at(0).isoformat(), "source": "Watch"}
    answer = await client.delete(path, params=only)
    assert (answer.status_code, answer.json()["data"]) == (200, {"deleted": 1}), answer.text
    assert await total(reader) == 90 + 7 + 3
    stretch = {"start": at(-5).isoformat(), "end": at(10).isoformat()}
    assert (await client.delete(path, params=stretch)).json()["data"] == {"deleted": 2}
    assert await total(reader) == 3
    rows = await reader.served.health.database.run(
        lambda c: c.execute(select(quarters.c.user_id, quarters.c.sum).order_by(quarters.c.user_id)).all()
    )
    assert [tuple(row) for row in rows] == [(ME, 3.0), (STRANGER, 1.0)]
    for wrong in ({}, {"start": at(0).isoformat()}, {"end": at(0).isoformat()}):
        assert (await client.delete(path, params=wrong)).status_code == 400


async def test_everything_is_taken_home_in_one_file(reader: Reader, export: Any) -> None:
    client = reader.served.client
    sent = (await client.post("/api/v1/ingest", json=export)).json()
    await client.post("/api/v1/ingest", json=export, headers=reader.served.stranger)
    await reader.store((points, [point("step_count", at(number), 1.0) for number in range(4500)]))
    answer = await client.get("/api/v1/takeout")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert "content-encoding" not in answer.headers
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    assert [name for name in archive.namelist() if name.startswith("raw/")] == [
        f"raw/{sent['id']}",
        f"raw/{sent['id']}.json",
    ]
    assert json.loads(archive.read(f"raw/{sent['id']}")) == export
    rows = [json.loads(line) for line in archive.read("tables/health_points.jsonl").splitlines()]
    assert len({row["time"] for row in rows}) == 4500
    assert {row["user_id"] for row in rows} == {ME}


async def test_everything_of_a_person_is_deleted_and_nothing_of_another(reader: Reader, export: Any) -> None:
    client = reader.served.client
    sent = (await client.post("/api/v1/ingest", json=export)).json()
    theirs = (await client.post("/api/v1/ingest", json=export, headers=reader.served.stranger)).json()
    await reader.store((points, steps()))
    await client.put("/api/v1/user/characteristics", json={"blood_type": "O_negative"})
    assert (await client.delete("/api/v1/user/data")).status_code == 400
    answer = await client.delete("/api/v1/user/data", params={"confirm": "everything"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["health_points"] == 4

    def left(connection: Any) -> set[int]:
        tables = [table for table in metadata.sorted_tables if "user_id" in table.c]
        return {user for table in tables for user in connection.scalars(select(table.c.user_id))}

    assert await reader.served.health.database.run(left) == {STRANGER}
    kept = await reader.served.health.database.run(lambda c: list(c.scalars(select(ingests.c.id))))
    assert kept == [theirs["id"]]
    raw = reader.served.health.raw
    assert await asyncio.to_thread(raw.receipt, sent["id"]) is None
    assert await asyncio.to_thread(raw.receipt, theirs["id"]) is not None


@pytest.mark.parametrize("method", ["get", "delete"])
async def test_these_routes_need_their_scopes(reader: Reader, method: str) -> None:
    paths = {"get": ["/api/v1/takeout"], "delete": ["/api/v1/metrics/step_count", "/api/v1/user/data"]}
    for path in paths[method]:
        answer = await reader.served.client.request(method.upper(), path, headers={"authorization": ""})
        assert answer.status_code == 401


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_answers_and_files_are_compressed_for_clients_that_take_it(reader: Reader, encoding: str) -> None:
    await reader.store((points, [point("step_count", at(number), 1.0) for number in range(20_000)]))
    client = reader.served.client
    for path, format in (("metrics/step_count", "json"), ("metrics/step_count", "csv"), *_FILES):
        asked: Any = {"params": {"format": format}}
        plain = await client.get(f"/api/v1/{path}", **asked, headers={"accept-encoding": "identity"})
        async with client.stream("GET", f"/api/v1/{path}", **asked, headers={"accept-encoding": encoding}) as packed:
            sent = b"".join([piece async for piece in packed.aiter_raw()])
        assert "content-encoding" not in plain.headers
        if format == "parquet":
            assert "content-encoding" not in packed.headers
            continue
        assert (packed.headers["content-encoding"], packed.headers["vary"]) == (encoding, "accept-encoding")
        assert len(sent) * 5 < len(plain.content)
        content = pa.input_stream(io.BytesIO(sent), compression=encoding).read()
        assert (len(content), content[-5000:-200]) == (len(plain.content), plain.content[-5000:-200])
    tag = (await client.get("/api/v1/metrics/step_count")).headers["etag"]
    assert (await client.get("/api/v1/metrics/step_count", headers={"if-none-match": tag})).status_code == 304
