from __future__ import annotations

import asyncio
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from sqlalchemy import Table

from penstock.apps.health.schema import history, points, quality, routes, series, workouts
from penstock.apps.health.settings import Settings

from .reader import BEGIN, INGEST, ME, STRANGER, Reader, at, beat, place, point, reading, workout

RUN = "8F0C3C4E-AAAA-4BBB-8CCC-1234567890AB"
GPX = {"g": "http://www.topografix.com/GPX/1/1"}
Rows = tuple[Table, list[dict[str, Any]]]


@pytest.fixture
async def reader(settings: Settings) -> AsyncIterator[Reader]:
    """The API on SQLite."""
    async with reading(settings) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgres"])
async def anywhere(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Reader]:
    """The API on each database."""
    if request.param == "postgres":
        settings = settings.model_copy(update={"database_url": SecretStr(request.getfixturevalue("postgis_database"))})
    async with reading(settings) as found:
        yield found


def person(user: int = ME, *, tag: str = "") -> list[Rows]:
    """A bit of everything."""
    run = RUN + tag
    return [
        (
            points,
            [
                *(point("step_count", at(n), float(n), user=user) for n in range(30)),
                point("heart_rate", at(0), 61.0, user=user, minimum=58.0, maximum=70.0, unit="count/min"),
                point(
                    "symptoms", at(1), None, user=user, kind=f"headache{tag}", unit=None, fields='{"severity":"mild"}'
                ),
                point("sleep_analysis", at(-400), 60.0, user=user, kind="core", end_time=at(-340), unit="min"),
                point("blood_pressure", at(2), None, user=user, fields='{"systolic":121,"diastolic":79}'),
            ],
        ),
        (workouts, [workout(run, at(0), user=user)]),
        (series, [beat(run, at(n), 120.0 + n, user=user) for n in range(5)]),
        (series, [beat(f"ecg{tag}", at(n / 1000), 0.1, "ecg_voltage", user=user) for n in range(3)]),
        (routes, [place(run, at(n), 52.5 + n / 1000, 13.4, user=user) for n in range(5)]),
        (
            history,
            [
                {
                    "user_id": user,
                    "record": "point",
                    "metric": "step_count",
                    "time": at(1),
                    "key": json.dumps({"source": f"Watch{tag}"}),
                    "original": '{"qty":0}',
                    "value": 0.0,
                    "unit": "count",
                    "ingest_id": INGEST,
                    "replaced_by": INGEST,
                    "replaced_at": BEGIN,
                }
            ],
        ),
        (quality, [{"user_id": user, "time": BEGIN, "score": 97.5, "findings": f'[{{"finding":"gap{tag}"}}]'}]),
    ]


async def test_metrics_are_listed_with_what_is_known_of_them(anywhere: Reader) -> None:
    await anywhere.store(*person(), (points, [point("steps_of_a_robot", at(0), 3.0, unit=None)]))
    found = {metric["name"]: metric for metric in await anywhere.data("/api/v1/metrics")}
    assert found["step_count"] == {
        "name": "step_count",
        "label": "Steps",
        "unit": "count",
        "aggregation": "sum",
        "count": 30,
        "first": "2026-02-03T06:15:00Z",
        "last": "2026-02-03T06:44:00Z",
        "latest": {"time": "2026-02-03T06:44:00Z", "value": 435.0},  # the total of the day
    }
    assert {"symptoms", "sleep_analysis", "ecg_voltage", "workout_heart_rate", "workouts", "workout_route"} < set(found)
    assert found["steps_of_a_robot"]["unit"] is None
    assert found["steps_of_a_robot"]["label"] == "Steps of a robot"


async def test_l7_every_metric_is_read_by_the_name_it_is_counted_by(reader: Reader) -> None:
    await reader.store(*person())
    counts = {"step_count": 30, "workout_heart_rate": 5, "ecg_voltage": 3, "workout_route": 5, "workouts": 1}
    for name, count in counts.items():
        rows = await reader.data(f"/api/v1/metrics/{name}")
        assert len(rows) == count
        assert rows == sorted(rows, key=lambda row: datetime.fromisoformat(row["time"]))
        assert (await reader.data(f"/api/v1/metrics/{name}/latest"))["time"] == rows[-1]["time"]


async def test_l10_points_come_with_all_their_fields(reader: Reader) -> None:
    await reader.store(*person())
    [row] = await reader.data("/api/v1/metrics/blood_pressure")
    assert row == {
        "time": "2026-02-03T06:17:00Z",
        "end_time": "2026-02-03T06:17:00Z",
        "source": "Watch",
        "kind": "",
        "value": None,
        "minimum": None,
        "maximum": None,
        "unit": "count",
        "fields": {"systolic": 121, "diastolic": 79},
        "original": {"date": "2026-02-03T06:17:00+00:00", "qty": None},
        "original_unit": "count",
        "offset_minutes": 60,
        "warnings": None,
    }


async def test_an_unknown_metric_is_missing_and_one_that_is_close_is_named(reader: Reader) -> None:
    await reader.store(*person())
    answer = await reader.get("/api/v1/metrics/step_cont")
    assert answer.status_code == 404
    assert "did you mean 'step_count'?" in answer.json()["message"]
    assert (await reader.get("/api/v1/metrics/steps")).json()["data"] == await reader.data("/api/v1/metrics/step_count")


async def test_a_window_is_half_open_and_may_be_said_in_days(reader: Reader) -> None:
    await reader.store((points, [point("step_count", at(n * 60), 1.0) for n in range(48)]))
    path = "/api/v1/metrics/step_count"
    one = await reader.data(path, start="2026-02-03T07:15:00+01:00", end="2026-02-03T08:15:00+01:00")
    assert [row["time"] for row in one] == ["2026-02-03T06:15:00Z"]
    assert len(await reader.data(path, start="2026-02-04", end="2026-02-05")) == 24
    assert len(await reader.data(f"{path}?start=2026-02-03T07:15:00+01:00&limit=1000")) == 48
    assert (await reader.get(path, start="2026-02-05", end="2026-02-04")).status_code == 400


async def test_sources_can_be_told_apart(reader: Reader) -> None:
    await reader.store((points, [point("step_count", at(0), 1.0, source=s) for s in ("Watch", "Phone", "")]))
    assert len(await reader.data("/api/v1/metrics/step_count")) == 3
    assert [row["source"] for row in await reader.data("/api/v1/metrics/step_count", source="Phone")] == ["Phone"]
    assert len(await reader.data("/api/v1/metrics/step_count?source=")) == 1
    found = await reader.data("/api/v1/sources")
    assert {source["source"]: source["count"] for source in found} == {"Watch": 1, "Phone": 1, "": 1}


@pytest.mark.parametrize("sort", ["asc", "desc"])
async def test_pages_are_complete_and_without_repeats_while_rows_arrive(anywhere: Reader, sort: str) -> None:
    at_once = [point("step_count", at(n // 7), float(n), ordinal=n % 7) for n in range(200)]
    await anywhere.store((points, at_once))
    seen: list[tuple[str, int]] = []
    cursor: dict[str, str] = {}
    late = 0
    while True:
        page = (await anywhere.get("/api/v1/metrics/step_count", limit=13, sort=sort, **cursor)).json()
        seen += [(row["source"], int(row["value"])) for row in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
        late += 1
        await anywhere.store((points, [point("step_count", at(late), 1000.0 + late, source="Late")]))
    numbers = [value for source, value in seen if source == "Watch"]
    assert len(seen) == len(set(seen))
    assert sorted(numbers) == list(range(200))
    assert numbers == sorted(numbers, reverse=sort == "desc")


async def test_garbage_is_no_cursor(anywhere: Reader) -> None:
    await anywhere.store(*person())
    garbage = ("x", "AAAA", "kw", "_" * 3000, "krDAkA", "eyJhIjoxfQ", "klxAAAAAAAAAAJUA", "wcHBwQ", "_\x00")
    for path in ("metrics/step_count", "metrics/step_count/history", "workouts", f"workouts/{RUN}/series/heart_rate"):
        for cursor in garbage:
            answer = await anywhere.get(f"/api/v1/{path}", cursor=cursor)
            assert answer.status_code == 400, path
            assert answer.json()["details"][0]["key"] == "cursor"


async def test_a_cursor_belongs_to_its_question(reader: Reader) -> None:
    await reader.store(*person())
    cursor = (await reader.get("/api/v1/metrics/step_count", limit=3)).json()["next_cursor"]
    for other in ({"sort": "desc"}, {"start": "2026-01-01"}, {"source": "Watch"}):
        answer = await reader.get("/api/v1/metrics/step_count", cursor=cursor, **other)
        assert answer.status_code == 400
    assert (await reader.get("/api/v1/metrics/step_count", cursor=cursor, limit=5)).status_code == 200
    assert (await reader.get("/api/v1/metrics/step_count", cursor=cursor, stranger=True)).status_code == 404


PATHS = [
    "/api/v1/metrics",
    "/api/v1/metrics/step_count",
    "/api/v1/metrics/step_count?format=csv",
    "/api/v1/metrics/step_count?format=parquet",
    "/api/v1/metrics/ecg_voltage",
    "/api/v1/metrics/step_count/aggregate",
    "/api/v1/metrics/step_count/latest",
    "/api/v1/metrics/step_count/history",
    "/api/v1/sleep/nights",
    "/api/v1/workouts",
    f"/api/v1/workouts/{RUN}",
    f"/api/v1/workouts/{RUN}/series/heart_rate",
    "/api/v1/workouts/ecg/series/ecg_voltage",
    f"/api/v1/workouts/{RUN}/route",
    f"/api/v1/workouts/{RUN}/route?format=gpx",
    f"/api/v1/workouts/{RUN}/route?format=json",
    "/api/v1/routes",
    "/api/v1/routes?near=52.5,13.4",
    "/api/v1/routes?bbox=13,52,14,53",
    "/api/v1/sources",
    "/api/v1/data-quality",
    "/api/v1/data/summary?start_date=2026-01-01",
    *(f"/api/v1/data/{kind}" for kind in ("heart-rate", "blood-pressure", "sleep", "activity", "workouts", "symptoms")),
    *(f"/api/v1/export/{what}" for what in ("all", "heart-rate", "activity-analytics", "workouts", "step_count")),
    "/api/v1/user/characteristics",
    "/api/v1/user/characteristics/emergency-info",
    "/api/v1/user/characteristics/uv-recommendations",
    "/api/v1/user/characteristics/activity-personalization",
    "/api/v1/user/characteristics/heart-rate-zones",
    "/api/v1/user/characteristics/validation/heart_rate",
    "/api/v1/user/characteristics/validation/resting_heart_rate",
]


def test_all_routes_that_read_are_in_the_table() -> None:
    from penstock.apps.health.api import app

    from .reader import MODULES

    found = {
        path
        for handler in app.routes(MODULES)
        if "GET" in handler.http_methods and not handler.opt.get("public")  # type: ignore[union-attr]
        for path in handler.paths  # type: ignore[union-attr]
    }
    covered = {template for template in found for path in PATHS if _fits(template, path.partition("?")[0])}
    assert found == covered


def _fits(template: str, path: str) -> bool:
    parts, given = template.split("/"), path.split("/")
    return len(parts) == len(given) and all(
        part.startswith("{") or part == of for part, of in zip(parts, given, strict=True)
    )


async def test_users_see_nothing_of_one_another(anywhere: Reader) -> None:
    await anywhere.store(*person())
    profile = {"blood_type": "O_negative", "date_of_birth": "1990-05-01", "fitzpatrick_skin_type": "type_3"}
    await anywhere.served.client.put("/api/v1/user/characteristics", json=profile | {"wheelchair_use": True})
    mine = {path: await anywhere.get(path) for path in PATHS}
    for path, answer in mine.items():
        assert answer.status_code == 200, (path, answer.text)
        alone = await anywhere.get(path, stranger=True)
        assert alone.status_code in (200, 404), (path, alone.text)
        for trace in ("headache", '"gap"', "Watch", "O_negative", '"count":30', "13.4", "type_3", "Running", "121"):
            assert trace not in alone.text.partition('"timestamp"')[0], path
        assert path.endswith("/validation/resting_heart_rate") or _parsed(alone.content) != _parsed(answer.content)
    await anywhere.store(*person(STRANGER, tag="OTHER"))
    for path, answer in mine.items():
        after = await anywhere.get(path)
        assert _parsed(after.content) == _parsed(answer.content), path
        assert b"OTHER" not in after.content


def _parsed(content: bytes) -> Any:
    try:
        parsed = json.loads(content)
    except ValueError:
        return content
    return {name: value for name, value in parsed.items() if "timestamp" not in name}


async def test_without_a_key_nothing_is_read(reader: Reader) -> None:
    for path in PATHS:
        answer = await reader.served.client.get(path, headers={"authorization": ""})
        assert answer.status_code == 401, path


HARD = [
    ("start", "2026-13-01"),
    ("start", "2026-02-30"),
    ("start", "0000-01-01"),
    ("start", "0001-01-01T00:00:00+14:00"),
    ("end", "9999-12-31T23:59:59-14:00"),
    ("start", "\x00"),
    ("start", "2026-02-03\n2026"),
    ("start", "9" * 500),
    ("limit", "0"),
    ("limit", "99999999999999999999999999"),
    ("sort", "up"),
    ("source", "a\x00b"),
    ("format", "xlsx"),
    ("strat", "2026-02-03"),
    ("\x00", "1"),
]


async def test_a_wrong_parameter_is_named(reader: Reader) -> None:
    await reader.store(*person())
    for name, value in HARD:
        answer = await reader.get("/api/v1/metrics/step_count", **{name: value})
        assert answer.status_code == 400, (name, value)
        body = answer.json()
        assert body["success"] is False
        assert body["error"] == "validation_error"
        assert name in [detail.get("key") for detail in body["details"]]


async def test_a_misspelt_parameter_is_not_ignored(reader: Reader) -> None:
    await reader.store(*person())
    assert "did you mean 'start'?" in (await reader.get("/api/v1/metrics/step_count", strat="x")).json()["message"]


ZONES = ("../../etc/passwd", "Europe", "Mars/Olympus", "", "Europe/Berlin\x00", "A" * 300, "/etc/localtime", "zone.tab")


async def test_a_time_zone_is_one_of_iana(reader: Reader) -> None:
    await reader.store(*person())
    for path in ("/api/v1/metrics/step_count/aggregate", "/api/v1/sleep/nights"):
        for zone in ZONES:
            answer = await reader.get(path, timezone=zone)
            assert answer.status_code == 400, answer.text
            assert answer.json()["details"][0]["key"] == "timezone"


FAR = (
    "",
    "start=0001-01-01&end=9999-12-31",
    "start=9999-12-31",
    "end=0001-01-01",
    "start=0001-01-01&end=0001-01-02&timezone=Asia/Tokyo",
    "start=9999-12-31T23:00:00Z&timezone=Pacific/Apia",
    "end=9999-12-31T23:59:59.999999Z",
    "source=%ED%A0%80",
    "source=%F0%9F%8F%83",
)


async def test_what_is_far_away_is_no_fault_of_ours(anywhere: Reader) -> None:
    extremes = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)]
    far = [point(name, time, 1.0) for name in ("step_count", "sleep_analysis") for time in extremes]
    await anywhere.store(*person(), (points, far))
    for path in ("metrics/step_count", "metrics/step_count/aggregate", "sleep/nights", "workouts", "routes"):
        for query in FAR:
            answer = await anywhere.get(f"/api/v1/{path}?{query}")
            assert answer.status_code in (200, 400), (path, query, answer.text)


async def test_a_name_may_be_anything(anywhere: Reader) -> None:
    await anywhere.store(*person())
    for name in ("%ED%A0%80", "a%00b", "%2e%2e", "%F0%9F%8F%83", "x" * 5000, "%27%3B--", "%25", "%0a"):
        for path in ("metrics/{}", "metrics/{}/latest", "workouts/{}", "data/{}", "export/{}", "workouts/{}/route"):
            answer = await anywhere.get("/api/v1/" + path.format(name))
            assert answer.status_code in (400, 404), (path, name, answer.text)
            assert answer.json()["success"] is False


async def test_days_are_as_long_as_the_clocks_say(anywhere: Reader) -> None:
    """On 29 March 2026 Berlin has 23 hours, on 25 October 25."""
    zone = ZoneInfo("Europe/Berlin")
    hours = [
        datetime(2026, month, day, tzinfo=UTC) + timedelta(hours=n)
        for month, day in ((3, 27), (10, 23))
        for n in range(96)
    ]
    await anywhere.store((points, [point("step_count", hour, 1.0) for hour in hours]))
    path = "/api/v1/metrics/step_count/aggregate"
    answer = (await anywhere.get(path, by="day", timezone="Europe/Berlin")).json()
    counts = {bucket["time"][:10]: bucket["count"] for bucket in answer["data"]}
    assert counts["2026-03-28"] == 24
    assert counts["2026-03-29"] == 23
    assert counts["2026-10-25"] == 25
    expected: dict[str, int] = {}
    for hour in hours:
        day = hour.astimezone(zone).date().isoformat()
        expected[day] = expected.get(day, 0) + 1
    assert counts == expected
    assert answer["unit"] == "count"
    assert answer["aggregation"] == "sum"
    times = [bucket["time"] for bucket in answer["data"]]
    assert "2026-03-29T00:00:00+01:00" in times
    assert "2026-03-30T00:00:00+02:00" in times
    weeks = await anywhere.data(path, by="week", timezone="Europe/Berlin")
    assert all(datetime.fromisoformat(bucket["time"]).weekday() == 0 for bucket in weeks)
    assert sum(bucket["count"] for bucket in weeks) == len(hours)
    doubled = await anywhere.data(path, by="hour", timezone="Europe/Berlin", start="2026-10-25", end="2026-10-26")
    assert len(doubled) == 25
    assert len({bucket["time"] for bucket in doubled}) == 25


async def test_a_range_of_too_many_buckets_is_refused(reader: Reader) -> None:
    far = [datetime(1990, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]
    await reader.store((points, [point("step_count", time, 1.0) for time in far]))
    answer = await reader.get("/api/v1/metrics/step_count/aggregate", by="hour")
    assert answer.status_code == 400
    assert answer.json()["details"][0]["key"] == "by"


async def test_a_field_can_be_aggregated(anywhere: Reader) -> None:
    await anywhere.store(*person())
    path = "/api/v1/metrics/blood_pressure/aggregate"
    [day] = await anywhere.data(path, field="systolic")
    assert day["mean"] == 121
    assert await anywhere.data(path, field="nothing") == []
    for field in ('a"b', "a\\b", "", "'"):
        assert (await anywhere.get(path, field=field)).status_code in (200, 400)


async def test_replaced_values_are_remembered(reader: Reader) -> None:
    await reader.store(*person())
    [old] = await reader.data("/api/v1/metrics/step_count/history")
    assert old["value"] == 0
    assert old["original"] == {"qty": 0}
    assert old["key"] == {"source": "Watch"}
    assert old["replaced_by"] == INGEST
    assert await reader.data("/api/v1/metrics/heart_rate/history") == []


async def test_what_has_not_changed_is_not_sent_again(reader: Reader) -> None:
    await reader.store(*person())
    first = await reader.get("/api/v1/metrics/step_count")
    tag = first.headers["etag"]
    headers = {"if-none-match": f'"other", {tag}'}
    again = await reader.served.client.get("/api/v1/metrics/step_count", headers=headers)
    assert again.status_code == 304
    assert again.content == b""
    await reader.store((points, [point("step_count", at(500), 1.0)]))
    changed = await reader.served.client.get("/api/v1/metrics/step_count", headers=headers)
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def sleeping(stage: str, start: float, end: float, source: str = "Watch", **more: Any) -> dict[str, Any]:
    """A segment, from and to minutes after 6:15 UTC."""
    return point(
        "sleep_analysis", at(start), end - start, kind=stage, end_time=at(end), source=source, unit="min", **more
    )


async def test_nights_have_stages_and_sums(reader: Reader) -> None:
    stages = [
        sleeping("in_bed", -480, 10, "Phone"),
        sleeping("core", -470, -300),
        sleeping("deep", -300, -240),
        sleeping("awake", -240, -230),
        sleeping("rem", -230, -100),
        sleeping("core", -100, 0),
        sleeping("unspecified", -475, 5, "Phone"),
        sleeping("core", 24 * 60 - 400, 24 * 60),
    ]
    await reader.store((points, stages))
    first, second = await reader.data("/api/v1/sleep/nights", timezone="Europe/Berlin")
    assert (first["night"], second["night"]) == ("2026-02-03", "2026-02-04")
    assert first["start"] == "2026-02-02T23:15:00+01:00"
    assert first["end"] == "2026-02-03T07:25:00+01:00"
    assert first["sources"] == ["Phone", "Watch"]
    assert len(first["stages"]) == 7
    assert first["totals"] == {
        "core": 270.0,
        "deep": 60.0,
        "rem": 130.0,
        "awake": 10.0,
        "in_bed": 490.0,
        "unspecified": 10.0,
        "asleep": 470.0,
    }
    assert [night["night"] for night in await reader.data("/api/v1/sleep/nights", start="2026-02-04")] == ["2026-02-04"]
    assert [night["night"] for night in await reader.data("/api/v1/sleep/nights", end="2026-02-04")] == ["2026-02-03"]


async def test_nights_that_the_phone_added_up_are_nights(reader: Reader) -> None:
    fields = json.dumps({"core": 200.0, "deep": 60.0, "rem": 100.0, "awake": 12.0, "in_bed": 400.0, "asleep": 360.0})
    await reader.store((points, [sleeping("aggregated", -400, 0, fields=fields)]))
    [night] = await reader.data("/api/v1/sleep/nights")
    assert night["night"] == "2026-02-03"
    assert night["stages"] == []
    assert night["totals"]["deep"] == 60
    assert night["totals"]["asleep"] == 400  # what the point itself says


async def test_a_sleep_that_ends_in_the_evening_belongs_to_the_next_morning(reader: Reader) -> None:
    evening = (datetime(2026, 2, 3, 22, 30, tzinfo=UTC) - BEGIN).total_seconds() / 60
    await reader.store(
        (points, [sleeping("core", evening - 60, evening), sleeping("core", evening + 300, evening + 500)])
    )
    [night] = await reader.data("/api/v1/sleep/nights", timezone="UTC")
    assert night["night"] == "2026-02-04"
    assert night["totals"]["core"] == 260
    answer = await reader.get("/api/v1/sleep/nights", start="2020-01-01", end="2026-01-01")
    assert answer.status_code == 400


async def test_workouts_say_what_belongs_to_them(anywhere: Reader) -> None:
    await anywhere.store(*person(), (workouts, [workout("second", at(100), "Yoga")]))
    second, first = await anywhere.data("/api/v1/workouts")
    assert (second["name"], second["has_route"], second["series"]) == ("Yoga", False, [])
    assert first["id"] == RUN
    assert first["duration"] == 1800
    assert first["has_route"] is True
    assert first["series"] == ["heart_rate"]
    assert first["fields"] == {"distance": {"value": 5020.0, "unit": "m"}}
    one = await anywhere.data(f"/api/v1/workouts/{RUN}")
    assert one["original"]["id"] == RUN
    page = (await anywhere.get("/api/v1/workouts", limit=1)).json()
    rest = (await anywhere.get("/api/v1/workouts", limit=1, cursor=page["next_cursor"])).json()
    assert [page["data"][0]["id"], rest["data"][0]["id"]] == ["second", RUN]
    assert rest["next_cursor"] is None
    for name in ("heart_rate", "workout_heart_rate"):
        beats = await anywhere.data(f"/api/v1/workouts/{RUN}/series/{name}")
        assert [row["value"] for row in beats] == [120, 121, 122, 123, 124]
    assert "heart_rate" in (await anywhere.get(f"/api/v1/workouts/{RUN}/series/heart_rat")).json()["message"]
    assert (await anywhere.get("/api/v1/workouts/none/series/heart_rate")).status_code == 404


async def test_a_route_is_a_valid_geojson_line(reader: Reader) -> None:
    await reader.store(*person(), (routes, [place("lonely", at(0), 1.5, 2.5)]), (workouts, [workout("lonely", at(9))]))
    answer = await reader.get(f"/api/v1/workouts/{RUN}/route")
    assert answer.headers["content-type"] == "application/geo+json"
    feature = answer.json()
    assert feature["type"] == "Feature"
    assert feature["geometry"]["type"] == "LineString"
    assert feature["geometry"]["coordinates"][0] == [13.4, 52.5, 34.5]
    assert feature["properties"]["workout"] == RUN
    assert feature["properties"]["distance_m"] == pytest.approx(4 * 111.195, rel=1e-3)
    alone = (await reader.get("/api/v1/workouts/lonely/route")).json()
    assert alone["geometry"] == {"type": "Point", "coordinates": [2.5, 1.5, 34.5]}
    assert (await reader.get("/api/v1/workouts/nothing/route")).status_code == 404


async def test_a_route_is_a_gpx_file(reader: Reader) -> None:
    run = "a/b <&> \U0001f3c3"
    name = "Morning & <run> \x0b"
    far = [place("gpx", at(0), 0.00001, -179.9999999, None), place("gpx", at(1), -52.5, 13.4)]
    await reader.store((workouts, [workout("gpx", at(0), name), workout(run, at(1))]), (routes, far))
    answer = await reader.get("/api/v1/workouts/gpx/route", format="gpx")
    assert answer.headers["content-type"] == "application/gpx+xml"
    assert answer.headers["content-disposition"] == 'attachment; filename="workout_gpx.gpx"'
    root = ElementTree.fromstring(answer.content)
    assert root.attrib["version"] == "1.1"
    [first, second] = root.findall("g:trk/g:trkseg/g:trkpt", GPX)
    assert first.attrib == {"lat": "0.00001", "lon": "-179.9999999"}
    assert first.find("g:ele", GPX) is None
    assert second.findtext("g:ele", None, GPX) == "34.5"
    assert second.findtext("g:time", None, GPX) == "2026-02-03T06:16:00Z"
    assert root.findtext("g:trk/g:type", None, GPX) == "Morning & <run> \ufffd"


async def test_a_long_route_is_whole(reader: Reader) -> None:
    many = [place("long", at(n / 60), 50 + n / 1e5, 10.0) for n in range(20_000)]
    await reader.store((workouts, [workout("long", at(0))]), (routes, many))
    feature = (await reader.get("/api/v1/workouts/long/route")).json()
    assert [place[1] for place in feature["geometry"]["coordinates"]] == [row["latitude"] for row in many]
    answer = await reader.get("/api/v1/workouts/long/route", format="gpx")
    assert len(ElementTree.fromstring(answer.content).findall("g:trk/g:trkseg/g:trkpt", GPX)) == 20_000
    page = (await reader.get("/api/v1/workouts/long/route", format="json")).json()
    assert len(page["data"]) == 10_000
    assert page["data"][0]["fields"] == {"speed": 2.5}
    rest = (await reader.get("/api/v1/workouts/long/route", format="json", cursor=page["next_cursor"])).json()
    assert len(rest["data"]) == 10_000
    assert rest["next_cursor"] is None


async def test_routes_are_found_by_place(anywhere: Reader) -> None:
    berlin = [place("berlin", at(n), 52.5 + n / 1000, 13.4) for n in range(5)]
    fiji = [place("fiji", at(n), -17.0, lon) for n, lon in enumerate((179.9, -179.9))]
    await anywhere.store((workouts, [workout("berlin", at(0)), workout("fiji", at(60))]), (routes, [*berlin, *fiji]))

    async def found(**parameters: Any) -> list[str]:
        answer = await anywhere.get("/api/v1/routes", **parameters)
        assert answer.status_code == 200, answer.text
        collection = answer.json()
        assert collection["type"] == "FeatureCollection"
        assert all(feature["geometry"]["type"] == "LineString" for feature in collection["features"])
        return [feature["properties"]["workout"] for feature in collection["features"]]

    assert await found() == ["fiji", "berlin"]
    assert await found(limit=1) == ["fiji"]
    assert await found(near="52.5,13.401", distance=100) == ["berlin"]
    assert await found(near="52.4,13.4", distance=100) == []
    assert await found(bbox="13,52,14,53") == ["berlin"]
    assert await found(bbox="179,-18,-179,-16") == ["fiji"]
    assert await found(end="2026-02-03T07:00:00Z") == ["berlin"]
    wrong = [
        {"near": "91,0"},
        {"near": "1"},
        {"near": "nan,1"},
        {"bbox": "1,2,3"},
        {"bbox": "0,10,1,5"},
        {"near": "1,1", "bbox": "0,0,1,1"},
        {"near": "1,1", "distance": "inf"},
        {"near": "1,1", "distance": "-1"},
        {"near": "1,1", "distance": "nan"},
    ]
    for parameters in wrong:
        answer = await anywhere.get("/api/v1/routes", **parameters)
        assert answer.status_code == 400, (parameters, answer.text)


async def test_the_quality_of_the_data_is_told(reader: Reader) -> None:
    assert await reader.data("/api/v1/data-quality") is None
    await reader.store(*person())
    found = await reader.data("/api/v1/data-quality")
    assert found == {"time": "2026-02-03T06:15:00Z", "score": 97.5, "findings": [{"finding": "gap"}]}


@pytest.mark.slow
async def test_a_year_of_minutes_is_aggregated_at_once(reader: Reader) -> None:
    """The bound is loose, for slow machines; the benchmark has the real one."""
    quarters = 4 * 24 * 366
    await reader.store((points, [point("step_count", BEGIN + timedelta(minutes=15 * n), 1.0) for n in range(quarters)]))
    begun = asyncio.get_running_loop().time()
    days = await reader.data("/api/v1/metrics/step_count/aggregate", by="day", timezone="Europe/Berlin")
    assert asyncio.get_running_loop().time() - begun < 2
    assert len(days) == 367
    assert sum(day["sum"] for day in days) == quarters
    assert days[0]["time"][:10] == date(2026, 2, 3).isoformat()
