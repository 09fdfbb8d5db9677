from __future__ import annotations

import asyncio
import csv
import gc
import io
import re
import tracemalloc
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from pydantic import SecretStr

from penstock.apps.health.reading import files
from penstock.apps.health.schema import points, routes, series, workouts
from penstock.apps.health.settings import Settings

from .reader import BEGIN, ME, Reader, at, beat, place, point, reading, workout


@pytest.fixture(params=["sqlite", "postgres"])
async def reader(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Reader]:
    """The API on each database, with a bit of everything."""
    if request.param == "postgres":
        settings = settings.model_copy(update={"database_url": SecretStr(request.getfixturevalue("postgis_database"))})
    async with reading(settings) as found:
        await found.store(
            (
                points,
                [
                    *(point("step_count", at(n), n / 2) for n in range(20)),
                    point("heart_rate", at(0), 61.0, minimum=58.0, maximum=70.0, unit="count/min"),
                    point("symptoms", at(0), None, kind="=1+1", source="@SUM(A1)", unit=None),
                    point("notes_of_a_robot", at(0), -5.0, kind='a "b", c\nd', source="-Watch"),
                ],
            ),
            (workouts, [workout("run", at(0))]),
            (series, [beat("run", at(n), 100.0 + n) for n in range(5)]),
            (routes, [place("run", at(n), 52.5, 13.4 + n) for n in range(4)]),
        )
        yield found


def table(content: bytes) -> list[dict[str, str]]:
    """Read a CSV."""
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


async def test_all_is_exported_as_json(reader: Reader) -> None:
    answer = await reader.get("/api/v1/export/all")
    assert answer.headers["content-type"] == "application/json"
    named = answer.headers["content-disposition"]
    assert re.fullmatch(r'attachment; filename="health_data_export_[0-9]{8}_[0-9]{6}\.json"', named)
    body = answer.json()
    assert body["success"] is True
    assert body["user_id"] == ME
    assert body["export_format"] == "json"
    assert body["date_range"] == {"start": None, "end": None}
    assert body["record_count"] == len(body["data"]) == 33
    assert datetime.fromisoformat(body["export_timestamp"])
    counts: dict[str, int] = {}
    for row in body["data"]:
        counts[row["metric"]] = counts.get(row["metric"], 0) + 1
    assert list(counts) == body["metric_types"] == sorted(counts)
    assert counts["workout_route"] == 4
    assert counts["workout_heart_rate"] == 5
    assert {row["record"] for row in body["data"]} == {"point", "series", "route", "workout"}
    [run] = [row for row in body["data"] if row["record"] == "workout"]
    assert run["kind"] == "Running"
    assert run["fields"] == {"distance": {"value": 5020.0, "unit": "m"}}
    assert "original" not in run
    [symptom] = [row for row in body["data"] if row["metric"] == "symptoms"]
    assert symptom["kind"] == "=1+1"


async def test_a_csv_is_a_real_file_without_formulas(reader: Reader) -> None:
    answer = await reader.get("/api/v1/export/all", format="csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].endswith('.csv"')
    rows = table(answer.content)
    assert list(rows[0]) == files.COLUMNS.names
    assert len(rows) == 33
    [symptom] = [row for row in rows if row["metric"] == "symptoms"]
    assert symptom["kind"] == "'=1+1"
    assert symptom["source"] == "'@SUM(A1)"
    [note] = [row for row in rows if row["metric"] == "notes_of_a_robot"]
    assert note["value"] == "-5"  # a number is a number
    assert note["kind"] == 'a "b", c\nd'
    assert note["source"] == "'-Watch"
    assert [row["latitude"] for row in rows if row["record"] == "route"] == ["52.5"] * 4


async def test_a_parquet_file_has_types(reader: Reader) -> None:
    answer = await reader.get("/api/v1/export/all", format="parquet", include_raw="true")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    found = parquet.read_table(io.BytesIO(answer.content))
    assert found.schema.equals(pa.schema([*files.COLUMNS, *files.RECEIVED]))
    assert found.num_rows == 33
    steps = found.filter(pa.compute.equal(found["metric"], "step_count"))
    assert steps["value"].to_pylist() == [n / 2 for n in range(20)]
    assert steps["time"].to_pylist()[1] == at(1)
    assert msgspec.json.decode(steps["original"][3].as_py())["qty"] == 1.5
    symptom = found.filter(pa.compute.equal(found["metric"], "symptoms")).to_pylist()[0]
    assert symptom["kind"] == "=1+1"


async def test_a_domain_a_metric_and_a_window_are_exported(reader: Reader) -> None:
    async def exported(path: str, **parameters: Any) -> dict[str, Any]:
        answer = await reader.get(f"/api/v1/export/{path}", **parameters)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    assert (await exported("heart-rate"))["metric_types"] == ["heart_rate"]
    assert (await exported("activity-analytics"))["record_count"] == 20
    assert (await exported("workouts"))["metric_types"] == ["workout_heart_rate", "workout_route", "workouts"]
    assert (await exported("notes_of_a_robot"))["record_count"] == 1
    assert (await exported("steps"))["metric_types"] == ["step_count"]
    assert (await exported("all", metric_types="step_count,heart_rate"))["record_count"] == 21
    window = {"start_date": at(5).isoformat(), "end_date": at(7).isoformat()}
    body = await exported("step_count", **window)
    assert [row["value"] for row in body["data"]] == [2.5, 3.0]
    assert body["date_range"] == {"start": "2026-02-03T06:20:00Z", "end": "2026-02-03T06:22:00Z"}
    raw = await exported("step_count", include_raw="true")
    assert raw["data"][3]["original"]["qty"] == 1.5
    empty = await exported("nutrition")
    assert (empty["data"], empty["record_count"]) == ([], 0)
    for kind in ("csv", "parquet"):
        assert (await reader.get("/api/v1/export/nutrition", format=kind)).status_code == 200
    nothing = await reader.get("/api/v1/export/nutrition", format="csv")
    assert nothing.text.strip() == ",".join(f'"{name}"' for name in files.COLUMNS.names)
    answer = await reader.get("/api/v1/export/step_cont")
    assert answer.status_code == 404
    assert "step_count" in answer.json()["message"]


async def test_the_format_may_be_asked_for_by_accept(reader: Reader) -> None:
    for accept, kind in (("text/csv", "text/csv"), ("*/*", "application/json"), ("a;q=1, text/csv;q=0.5", "text/csv")):
        answer = await reader.served.client.get("/api/v1/export/all", headers={"accept": accept})
        assert answer.headers["content-type"].startswith(kind)
    chosen = await reader.served.client.get("/api/v1/export/all?format=json", headers={"accept": "text/csv"})
    assert chosen.headers["content-type"] == "application/json"


async def test_a_metric_is_a_file_too(reader: Reader) -> None:
    path = "/api/v1/metrics/step_count"
    whole = await reader.get(path, format="csv")
    assert whole.headers["content-disposition"] == 'attachment; filename="step_count.csv"'
    assert [float(row["value"]) for row in table(whole.content)] == [n / 2 for n in range(20)]
    first = await reader.get(path, format="csv", limit=15, sort="desc")
    cursor = first.headers["x-next-cursor"]
    rest = await reader.get(path, format="parquet", limit=15, sort="desc", cursor=cursor)
    assert "x-next-cursor" not in rest.headers
    values = [float(row["value"]) for row in table(first.content)]
    values += parquet.read_table(io.BytesIO(rest.content))["value"].to_pylist()
    assert values == [n / 2 for n in reversed(range(20))]
    route = table((await reader.get("/api/v1/metrics/workout_route", format="csv")).content)
    assert [float(row["longitude"]) for row in route] == [13.4, 14.4, 15.4, 16.4]


async def test_an_export_needs_its_scope(reader: Reader) -> None:
    only_read = await reader.served.key("read")
    answer = await reader.served.client.get("/api/v1/export/all", headers=only_read)
    assert answer.status_code == 403


@pytest.mark.slow
async def test_a_long_export_is_whole_and_takes_bounded_memory(settings: Settings) -> None:
    count = 100_000
    async with reading(settings) as reader:
        await reader.store(
            (points, [point("step_count", BEGIN + timedelta(minutes=n), float(n)) for n in range(count)])
        )
        for kind in ("csv", "parquet", "json"):
            gc.collect()
            tracemalloc.start()
            received = 0
            whole = io.BytesIO()
            path = f"/api/v1/export/all?format={kind}"
            async with reader.served.client.stream("GET", path) as answer:
                assert answer.status_code == 200
                async for piece in answer.aiter_bytes(65536):
                    received += len(piece)
                    if kind == "parquet":
                        whole.write(piece)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 40_000_000, kind
            assert received > (500_000 if kind == "parquet" else 5_000_000)
            if kind == "parquet":
                found = await asyncio.to_thread(parquet.read_table, whole)
                assert found["value"].to_pylist() == [float(n) for n in range(count)]
