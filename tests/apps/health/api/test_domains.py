from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from penstock.apps.health.export.domains import DOMAINS
from penstock.apps.health.schema import points, workouts
from penstock.apps.health.settings import Settings

from .reader import Reader, at, point, reading, workout


@pytest.fixture(params=["sqlite", "postgres"])
async def reader(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Reader]:
    """The API on each database."""
    if request.param == "postgres":
        settings = settings.model_copy(update={"database_url": SecretStr(request.getfixturevalue("postgis_database"))})
    async with reading(settings) as found:
        yield found


async def test_every_domain_is_read_by_the_same_route(reader: Reader) -> None:
    rows = [point(domain.metrics[0], at(0), 1.0, source=name) for name, domain in DOMAINS.items()]
    await reader.store((points, rows), (workouts, [workout("run", at(0))]))
    for name, domain in DOMAINS.items():
        answer = await reader.get(f"/api/v1/data/{name}", limit=1000)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert {row["metric"] for row in body["data"]} <= set(body["metric_types"])
        assert name in {row["source"] for row in body["data"]}, domain
        assert body["total_count"] == len(body["data"])
        assert body["date_range"] == {"start": "2026-02-03T06:15:00Z", "end": "2026-02-03T06:15:00Z"}
    body = (await reader.get("/api/v1/data/workouts")).json()
    assert body["data"][0]["metric"] == "Running"
    assert body["data"][0]["parent"] == "run"
    assert body["summary"]["Running"]["sum"] == 1800


async def test_pages_of_a_domain_are_in_the_order_of_time(reader: Reader) -> None:
    names = ("heart_rate", "resting_heart_rate", "vo2_max")
    await reader.store((points, [point(names[n % 3], at(n), float(n)) for n in range(100)]))
    seen = []
    for page in range(1, 6):
        body = (await reader.get("/api/v1/data/heart-rate", page=page, limit=23, sort="asc")).json()
        assert body["total_count"] == 100
        assert body["pagination"] == {"page": page, "limit": 23, "has_next": page < 5, "has_prev": page > 1}
        seen += [row["value"] for row in body["data"]]
    assert seen == [float(n) for n in range(100)]
    newest = (await reader.get("/api/v1/data/heart-rate", limit=2)).json()
    assert [row["value"] for row in newest["data"]] == [99, 98]
    assert (await reader.get("/api/v1/data/heart-rate", page=6, limit=23)).json()["data"] == []
    skipped = (await reader.get("/api/v1/data/heart-rate", offset=10, limit=1, sort="asc")).json()
    assert skipped["data"][0]["value"] == 10
    some = (await reader.get("/api/v1/data/heart-rate", metric_types="vo2_max, heart_rate")).json()
    assert some["metric_types"] == ["heart_rate", "vo2_max"]
    assert some["total_count"] == 67
    window = {"start_date": at(10).isoformat(), "end_date": at(20).isoformat()}
    assert (await reader.get("/api/v1/data/heart-rate", **window)).json()["total_count"] == 10


async def test_a_summary_has_the_extremes_of_each_metric(reader: Reader) -> None:
    beats = [
        point("heart_rate", at(0), 60.0, minimum=50.0, maximum=80.0, unit="count/min"),
        point("heart_rate", at(1), 70.0, unit="count/min"),
        point("resting_heart_rate", at(2), 55.0, unit="count/min"),
    ]
    await reader.store((points, beats))
    summary = (await reader.get("/api/v1/data/heart-rate")).json()["summary"]
    assert summary["heart_rate"] == {
        "count": 2,
        "first": "2026-02-03T06:15:00Z",
        "last": "2026-02-03T06:16:00Z",
        "mean": 65.0,
        "minimum": 50.0,
        "maximum": 80.0,
        "unit": "count/min",
    }
    assert summary["resting_heart_rate"]["count"] == 1


async def test_a_summary_is_of_its_window_however_it_lies(reader: Reader) -> None:
    minutes = [0.0, 3.5, 14.999999, 15, 16, 29, 30, 44.5, 45, 59, 60, 61.25, 90, 200]
    await reader.store((points, [point("step_count", at(n), n, source=f"S{int(n) % 2}") for n in minutes]))
    for start, end in ((0, 60), (3, 61), (3, 14), (14, 16), (29, 31), (15, 45), (44, 46), (-100, 500), (16, 16)):
        for source in (None, "S1"):
            parameters = {"start_date": at(start).isoformat(), "end_date": at(end).isoformat()}
            parameters |= {"source": source} if source else {}
            body = (await reader.get("/api/v1/data/activity", **parameters)).json()
            inside = [n for n in minutes if start <= n < end and (source is None or int(n) % 2)]
            assert body["total_count"] == len(inside) == len(body["data"])
            if inside:
                summary = body["summary"]["step_count"]
                assert summary["sum"] == pytest.approx(sum(inside))
                assert summary["mean"] == pytest.approx(sum(inside) / len(inside))
                assert (summary["minimum"], summary["maximum"]) == (min(inside), max(inside))
                assert datetime.fromisoformat(summary["first"]) == at(min(inside))
                assert datetime.fromisoformat(summary["last"]) == at(max(inside))
    far = await reader.get("/api/v1/data/activity", start_date="9999-12-31T23:59:00Z", end_date="9999-12-31T23:59:30Z")
    assert far.json()["total_count"] == 0
    assert (await reader.get("/api/v1/data/activity?start_date=9999-12-31T23:59:00Z")).json()["total_count"] == 0


async def test_domains_have_facts_of_their_own(reader: Reader) -> None:
    day = timedelta(days=1)
    pressure = {"systolic": 120, "diastolic": 80}
    await reader.store(
        (
            points,
            [
                *(point("blood_glucose", at(n), value) for n, value in enumerate((60.0, 70.0, 100.0, 180.0, 200.0))),
                point("weight_body_mass", at(0), 81.0, unit="kg"),
                point("height", at(0) - 900 * day, 180.0, unit="cm"),
                point("blood_oxygen_saturation", at(0), 89.0),
                point("blood_oxygen_saturation", at(1), 97.0),
                point("body_temperature", at(0), 38.2),
                point("dietary_water", at(0), 500.0),
                point("dietary_water", at(1), 1000.0),
                point("dietary_water", at(0) + day, 500.0),
                point("handwashing", at(0), 20.0),
                point("handwashing", at(1), 5.0),
                point("blood_pressure", at(0), None, fields=json.dumps(pressure)),
                point("blood_pressure", at(1), None, fields=json.dumps({"systolic": 130.5})),
            ],
        )
    )

    async def facts(kind: str) -> object:
        return (await reader.get(f"/api/v1/data/{kind}", start_date="2026-01-01")).json()["facts"]

    assert await facts("blood-glucose") == {
        "time_in_range_percent": 60.0,
        "below_range_percent": 20.0,
        "above_range_percent": 20.0,
    }
    assert await facts("metabolic") == await facts("blood-glucose")
    assert await facts("body-measurements") == {"body_mass_index": {"value": 25.0, "class": "overweight"}}
    assert await facts("respiratory") == {"oxygen_below_90": 1}
    assert await facts("temperature") == {"fever": 1}
    assert await facts("hydration") == {"water_a_day": 1000.0, "caffeine_a_day": None}
    assert await facts("hygiene") == {"handwashing_from_20_s_percent": 50.0}
    assert await facts("blood-pressure") == {"mean_systolic": 125.25, "mean_diastolic": 80.0}


async def test_events_are_found_by_their_kind(reader: Reader) -> None:
    kinds = ("headache", "nausea", "headache")
    await reader.store((points, [point("symptoms", at(n), None, kind=kind) for n, kind in enumerate(kinds)]))
    body = (await reader.get("/api/v1/data/symptoms", of_kind="headache")).json()
    assert body["total_count"] == 2
    assert [row["kind"] for row in body["data"]] == ["headache", "headache"]


async def test_the_summary_is_of_the_last_thirty_days(reader: Reader) -> None:
    now = datetime.now(UTC)
    steps = [point("step_count", now - timedelta(days=n), 10.0) for n in (1, 20, 31)]
    await reader.store((points, steps), (workouts, [workout("run", now - timedelta(days=2))]))
    found = await reader.data("/api/v1/data/summary")
    assert set(found) == {"heart_rate", "blood_pressure", "sleep", "activity", "workouts"}
    assert found["activity"]["metrics"]["step_count"]["sum"] == 20
    assert found["activity"]["facts"]["steps_a_day"] == 10
    assert found["workouts"]["count"] == 1
    assert found["sleep"]["count"] == 0
    every = await reader.data("/api/v1/data/summary", start_date="2020-01-01")
    assert every["activity"]["count"] == 3


async def test_what_is_no_domain_is_not_found(reader: Reader) -> None:
    answer = await reader.get("/api/v1/data/heart_rate")
    assert answer.status_code == 404
    assert "did you mean 'heart-rate'?" in answer.json()["message"]
    for name, value in (("page", "0"), ("limit", "1001"), ("sort", "x"), ("start_date", "x"), ("offset", "-1")):
        answer = await reader.get("/api/v1/data/heart-rate", **{name: value})
        assert answer.status_code == 400
        assert answer.json()["details"][0]["key"] == name
    empty = (await reader.get("/api/v1/data/heart-rate", page=100_000, offset=10_000_000)).json()
    assert empty["data"] == []
    assert empty["date_range"] is None
