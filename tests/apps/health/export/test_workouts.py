"""Workouts of version 1 and 2, their series and their routes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.apps.health.export.elements import snake
from penstock.apps.health.export.workouts import measured, series_name

from .exports import divided, rows
from .parsing import ALL_SHAPES, SAMPLES, Parsed, cut, listed

RUN, WALK = ALL_SHAPES["workouts"]
IRVINLIM = json.loads((SAMPLES / "irvinlim-inline" / "marshal_02_want_valid.json").read_text())["data"]["workouts"]
BENMURRELL = json.loads((SAMPLES / "benmurrell-workouts-v1" / "workoutA-workoutB.json").read_text())["workouts"]
IN_COLUMNS = {"id", "name", "start", "end", "source"}


def shells(*workouts: Any) -> Parsed:
    return Parsed(listed("workouts", list(workouts)))


@pytest.mark.parametrize("workout", [RUN, WALK, *IRVINLIM, *BENMURRELL], ids=lambda workout: workout["name"])
def test_l10_every_field_of_a_workout_is_read_back(workout: dict[str, Any]) -> None:
    parsed = Parsed(*cut([workout]))
    row = parsed.of("workouts")[0]
    scalars = {key: value for key, value in workout.items() if not isinstance(value, list)}
    assert row["original"] == scalars
    said = {snake(key) for key, value in scalars.items() if key not in IN_COLUMNS and value is not None}
    assert row["fields"].keys() == said
    assert not parsed.quarantined


@pytest.mark.parametrize("workout", [RUN, WALK, *IRVINLIM, *BENMURRELL], ids=lambda workout: workout["name"])
def test_l9_every_point_of_every_list_of_a_workout_is_read_back(workout: dict[str, Any]) -> None:
    parsed = Parsed(*cut([workout]))
    identity = parsed.of("workouts")[0]["parent"]
    for key, points in workout.items():
        if isinstance(points, list):
            type = "workout_route" if key == "route" else f"workout_{series_name(key)}"
            rows = parsed.of(type)
            assert [row["original"] for row in rows] == points
            assert {row["parent"] for row in rows} == {identity}
            assert {row["record"] for row in rows} == {"route" if key == "route" else "series"}


def test_numbers_come_in_canonical_units() -> None:
    row = shells(RUN).rows[0]
    assert row["parent"] == "0A0B0C0D-1111-4222-8333-444455556666"
    assert (row["metric"], row["value"], row["unit"], row["offset_minutes"]) == ("Outdoor Run", 1870.2, "s", 60)
    assert row["time"] == datetime(2026, 2, 3, 16, tzinfo=UTC)
    assert row["end_time"] == datetime(2026, 2, 3, 16, 31, 10, tzinfo=UTC)
    fields = row["fields"]
    assert fields["distance"] == {"value": 5020.0, "unit": "m"}
    assert fields["active_energy_burned"] == {"value": pytest.approx(1210.4 / 4.184), "unit": "kcal"}
    assert fields["temperature"] == {"value": 4, "unit": "degC"}
    assert fields["heart_rate"]["max"] == {"value": 177, "unit": "count/min"}
    assert fields["is_indoor"] is False


def test_version_1_elevation_steps_and_speed_are_converted() -> None:
    row = shells({key: value for key, value in WALK.items() if not isinstance(value, list)}).rows[0]
    assert row["fields"]["elevation"] == {
        "ascent": {"value": pytest.approx(5.73024), "unit": "m"},
        "descent": {"value": 0, "unit": "m"},
    }
    assert row["fields"]["step_count"] == {"value": 308, "unit": "count"}
    assert row["fields"]["speed"]["unit"] == "m/s"
    assert row["value"] == 725


def test_without_an_id_it_is_made_of_name_start_and_end_whatever_the_offset() -> None:
    plain = {"name": "Walking", "start": "2026-02-03 07:00:00 +0100", "end": "2026-02-03 08:00:00 +0100"}
    moved = {"name": "Walking", "start": "2026-02-03 06:00:00 +0000", "end": "2026-02-03 07:00:00 +0000"}
    other = plain | {"name": "Running"}
    ids = [row["parent"] for row in shells(plain, moved, other).rows]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("key", ["intesity", "intensity"])
def test_intensity_is_found_under_the_spelling_with_an_error_too(key: str) -> None:
    row = shells({"name": "Run", "start": "2026-02-03 07:00:00 +0100", key: {"qty": 4.2, "units": "MET"}}).rows[0]
    assert row["fields"]["intensity"] == {"value": 4.2, "unit": "kcal/hr·kg"}
    assert key in row["original"]


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({"end": "2026-02-03 06:00:00 +0100"}, "end_before_start"),
        ({"end": "2026-02-05 07:00:00 +0100"}, "suspicious_value"),
        ({"end": "soon"}, "unreadable_end"),
        ({"distance": {"qty": 900, "units": "km"}}, "suspicious_value"),
        ({"avgHeartRate": 400}, "suspicious_value"),
    ],
)
def test_what_is_odd_is_kept_and_flagged(values: dict[str, Any], warning: str) -> None:
    parsed = shells({"name": "Run", "start": "2026-02-03 07:00:00 +0100", **values})
    assert parsed.of("workouts")
    assert parsed.warnings() == [warning]


@pytest.mark.parametrize(
    ("duration", "seconds"), [(90, 90), ("0:30:00", 1800), ({"qty": 2, "units": "min"}, 120), ("odd", None)]
)
def test_durations(duration: Any, seconds: float | None) -> None:
    row = shells({"name": "Run", "start": "2026-02-03 07:00:00 +0100", "duration": duration}).rows[0]
    assert row["value"] == seconds


@pytest.mark.parametrize("start", [None, "", "garbage", {"a": 1}])
def test_a_workout_without_a_start_and_all_its_lists_are_in_quarantine(start: Any) -> None:
    parsed = Parsed(*cut([RUN | {"start": start}, WALK]))
    lost = [row for row in parsed.quarantined if row["path"].startswith("data.workout")]
    points = sum(len(value) for value in RUN.values() if isinstance(value, list))
    assert len(lost) == len(parsed.quarantined) == 1 + points
    assert all("start" in row["reason"] for row in lost)
    assert len(parsed.of("workouts")) == 1


def test_minimum_average_and_maximum_of_a_series() -> None:
    slices = cut([{"name": "Run", "start": "2026-02-03 07:00:00 +0100", "heartRateData": RUN["heartRateData"]}])
    row = Parsed(*slices).of("workout_heart_rate")[0]
    assert (row["minimum"], row["value"], row["maximum"], row["unit"]) == (120, 130, 140, "count/min")
    assert (row["source"], row["original_unit"], row["metric"]) == ("Watch A", "bpm", "heart_rate")


def test_a_series_that_no_one_knows_is_kept_under_its_name() -> None:
    points = [{"date": "2026-02-03 07:00:00 +0100", "qty": 3, "units": "widgets", "mood": "good"}]
    row = Parsed(*cut([{"name": "Run", "start": "2026-02-03 07:00:00 +0100", "newSeries": points}])).rows[1]
    assert (row["type"], row["metric"], row["value"], row["unit"]) == ("workout_new_series", "new_series", 3, "widgets")
    assert row["fields"] == {"mood": "good"}


def test_units_may_differ_within_a_series() -> None:
    points = [
        {"date": "2026-02-03 07:00:00 +0100", "qty": 1, "units": "km"},
        {"date": "2026-02-03 07:01:00 +0100", "qty": 1, "units": "mi"},
        {"date": "2026-02-03 07:02:00 +0100", "qty": 1},
    ]
    rows = Parsed(
        *cut([{"name": "Run", "start": "2026-02-03 07:00:00 +0100", "walkingAndRunningDistance": points}])
    ).rows
    assert [(row["value"], row["unit"]) for row in rows[1:]] == [(1000, "m"), (1609.344, "m"), (1, None)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"qty": 4}, "date"),
        ({"date": "garbage", "qty": 3}, "date"),
        ({"date": "2026-02-03 07:00:00 +0100"}, "no value"),
        ({"date": "2026-02-03 07:00:00 +0100", "qty": None}, "no value"),
        (None, "object"),
        ([], "object"),
    ],
)
def test_a_bad_point_of_a_series_is_alone_in_quarantine(bad: Any, reason: str) -> None:
    good = {"date": "2026-02-03 07:00:00 +0100", "qty": 1, "units": "bpm"}
    slices = cut([{"name": "Run", "start": "2026-02-03 07:00:00 +0100", "heartRateData": [good, bad, good]}])
    parsed = Parsed(*slices)
    assert [row["path"] for row in parsed.quarantined] == ["data.workout_series[1]"]
    assert reason in parsed.quarantined[0]["reason"]
    assert parsed.quarantined[0]["index"] == 1
    assert len(parsed.of("workout_heart_rate")) == 2


def route(*points: Any) -> Parsed:
    return Parsed(*cut([{"name": "Run", "start": "2026-02-03 07:00:00 +0100", "route": list(points)}]))


def test_places_of_both_versions() -> None:
    when = {"timestamp": "2026-02-03 07:00:00 +0100"}
    rows = route(
        {"latitude": 51.5, "longitude": -0.12, "altitude": 20, "courseAccuracy": 3.1, **when},
        {"lat": 38.9, "lon": -77, **when},
    ).of("workout_route")
    assert [(row["latitude"], row["longitude"], row["altitude"]) for row in rows] == [
        (51.5, -0.12, 20),
        (38.9, -77, None),
    ]
    assert rows[0]["fields"] == {"course_accuracy": 3.1}
    assert [row["ordinal"] for row in rows] == [0, 1]


@pytest.mark.parametrize(
    "place", [{"latitude": 51.5}, {"lat": "north", "lon": 1}, {"lat": True, "lon": 1}, {"lat": None, "lon": None}]
)
def test_a_place_without_a_position_is_in_quarantine(place: dict[str, Any]) -> None:
    parsed = route(place | {"timestamp": "2026-02-03 07:00:00 +0100"})
    assert "no position" in parsed.quarantined[0]["reason"]


@pytest.mark.parametrize("values", [{"lat": 91}, {"lon": -181}, {"altitude": 9500}, {"speed": 200}])
def test_a_place_that_cannot_be_is_kept_and_flagged(values: dict[str, float]) -> None:
    place = {"lat": 1, "lon": 1, "timestamp": "2026-02-03 07:00:00 +0100"}
    parsed = route(place | values)
    assert parsed.warnings() == ["suspicious_value"]
    assert parsed.of("workout_route")[0]["original"] == place | values


def test_lists_of_units_stay_as_they_are_where_nothing_is_known() -> None:
    assert measured({"qty": 1, "units": "widgets"}) == {"value": 1, "unit": "widgets"}
    assert measured({"units": "m", "text": "x", "deep": {"qty": 1, "units": "km"}}) == {
        "text": "x",
        "deep": {"value": 1000, "unit": "m"},
    }
    assert measured({"qty": 3}) == {"value": 3, "unit": None}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(st.text(max_size=10), deeper, max_size=3),
    max_leaves=8,
)
KEYS = (
    *("id", "name", "start", "end", "date", "timestamp", "qty", "units", "Min", "Avg", "Max", "source", "duration"),
    *("lat", "lon", "latitude", "longitude", "altitude", "speed", "distance", "heartRate", "elevation"),
)
keys = st.sampled_from(KEYS)
likely = anything | st.sampled_from(["2026-02-03 07:00:00 +0100", "km", {"qty": 1e308, "units": "km"}, 1e308, 10**400])
garbage = st.lists(anything | st.dictionaries(keys, likely, max_size=8), max_size=6)


@pytest.mark.parametrize("section", ["workouts", "workout_series", "workout_route"])
@given(elements=garbage, parent=anything | st.dictionaries(keys, likely))
@settings(max_examples=60, deadline=None)
def test_garbage_never_raises_and_all_of_it_is_accounted_for(section: str, elements: Any, parent: Any) -> None:
    parsed = Parsed(listed(section, elements, name="heartRateData", parent=json.dumps(parent).encode()))
    assert len(parsed.rows) == len(elements)
    assert sorted(row["index"] for row in parsed.rows) == list(range(len(elements)))


INTERVAL = {
    "start": "2026-09-22 18:00:00 +0200",
    "activeDuration": 1199,
    "metrics": {"distance": {"qty": 4.1, "units": "km"}},
}
SEGMENT = {"index": 1, "type": "kilometre", "start": "2026-09-22 18:00:00 +0200", "metrics": {"energy": {"qty": 70}}}
OBJECTS = st.dictionaries(
    st.text("abcXYZ", min_size=1, max_size=6),
    st.none()
    | st.integers(-9, 9)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)
    | st.dictionaries(st.text("abc", max_size=2), st.integers()),
    max_size=4,
)


def of_body(workout: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a whole body with one workout."""
    return rows(divided(json.dumps({"data": {"workouts": [workout]}}).encode()))


def test_activities_and_segments_are_kept_with_their_workout() -> None:
    [row] = of_body(RUN_OF_10 | {"activities": [INTERVAL, INTERVAL], "segments": [SEGMENT]})
    assert (row["record"], row["warnings"]) == ("workout", None)
    original, fields = json.loads(row["original"]), json.loads(row["fields"])
    assert (original["activities"], original["segments"]) == ([INTERVAL, INTERVAL], [SEGMENT])
    assert fields["activities"][0]["metrics"] == {"distance": {"value": 4100.0, "unit": "m"}}
    assert fields["segments"][0]["metrics"] == {"energy": {"value": 70, "unit": None}}


RUN_OF_10 = {"id": "A", "name": "Run", "start": "2026-09-22 18:00:00 +0200", "end": "2026-09-22 19:00:00 +0200"}


@given(
    st.text("abcdefgXYZ", min_size=1, max_size=12).filter(lambda key: key not in ("date", "id", "name", "qty")),
    st.lists(OBJECTS | st.none() | st.integers(), min_size=1, max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_any_list_that_holds_no_points_is_kept_with_its_workout(key: str, held: list[Any]) -> None:
    [row] = of_body(RUN_OF_10 | {key: held})
    assert row["record"] == "workout"
    assert json.loads(row["original"])[key] == held


def test_a_new_list_of_points_is_a_series() -> None:
    points = [{"date": "2026-09-22 18:00:00 +0200", "qty": n, "units": "count"} for n in range(3)]
    first, *others = of_body(RUN_OF_10 | {"newThing": [None, *points]})
    assert [row["record"] for row in (first, *others)] == ["quarantined", "series", "series", "series", "workout"]


def test_a_long_list_without_numbers_is_kept_beside_its_workout() -> None:
    laps = [{"date": "2026-09-22 18:00:00 +0200", "lap": n, "text": "x" * 100} for n in range(2000)]
    *kept, workout = of_body(RUN_OF_10 | {"laps": laps})
    assert [(row["record"], row["metric"]) for row in kept] == [("series", "laps")] * 2000
    assert [json.loads(row["original"]) for row in kept] == laps
    assert workout["record"] == "workout"


def test_however_many_lists_a_workout_has_only_some_are_cut_out() -> None:
    points = [{"date": "2026-09-22 18:00:00 +0200", "qty": 1}]
    found = of_body(RUN_OF_10 | {f"k{number}": points for number in range(1000)})
    assert [row["record"] for row in found] == ["series"] * 100 + ["workout"]
    assert len(json.loads(found[-1]["original"])) == len(RUN_OF_10) + 900


@pytest.mark.parametrize(("first", "flagged"), [("10:30", True), ("10:29", False)])
def test_a_heart_rate_that_begins_when_the_workout_is_over_is_flagged(first: str, flagged: bool) -> None:
    """The series of the recovery comes under the name of the heart rate, with one value as Min, Avg and Max."""
    beats = [
        {"date": f"2024-03-01 {at} +0000", "Min": value, "Avg": value, "Max": value, "units": "bpm"}
        for at, value in ((f"{first}:00", 150), ("10:30:05", 140), ("10:30:10", 130))
    ]
    run = {"id": "W60", "name": "Run", "start": "2024-03-01 10:00:00 +0000", "end": "2024-03-01 10:30:00 +0000"}
    found = Parsed(*cut([run | {"heartRateData": beats}]))
    assert ("suspicious_series" in found.warnings()) == flagged
    assert len(found.of("workout_heart_rate")) == 3


def test_units_of_a_workout_are_converted_or_flagged() -> None:
    run = {"id": "W7", "name": "Run", "start": "2024-03-01 10:00:00 +0000", "end": "2024-03-01 10:30:00 +0000"}
    found = Parsed(*cut([run | {"maxSpeed": {"qty": 15, "units": "kmph"}, "distance": {"qty": 3, "units": "furlong"}}]))
    [row] = found.of("workouts")
    assert row["fields"]["max_speed"] == {"unit": "m/s", "value": pytest.approx(15 / 3.6)}
    assert row["fields"]["distance"] == {"unit": "furlong", "value": 3}
    assert found.warnings() == ["unknown_unit"]


def test_a_unit_that_is_not_known_is_flagged_and_its_value_kept_apart() -> None:
    speeds = {"avgSpeed": {"qty": 7.2, "units": "mph"}, "maxSpeed": {"qty": 15, "units": "kmph"}}
    parsed = shells(RUN_OF_10 | speeds)
    fields = parsed.rows[0]["fields"]
    assert fields["max_speed"] == {"value": pytest.approx(15 / 3.6), "unit": "m/s"}
    assert parsed.warnings() == []
    strange = shells(RUN_OF_10 | {"pace": {"qty": 5, "units": "min/km"}, "new": [{"a": {"qty": 1, "units": "moons"}}]})
    fields = strange.rows[0]["fields"]
    assert fields["pace"] == {"value": 5, "unit": "min/km"}
    assert strange.warnings() == ["unknown_unit"] * 2
    assert "'moons'" in strange.rows[0]["warnings"][1]["message"]


def test_a_point_of_a_series_in_a_unit_that_is_not_known_is_flagged() -> None:
    points = [{"date": RUN_OF_10["start"], "Avg": 120, "units": unit} for unit in ("bpm", "moons", "m")]
    parsed = Parsed(*cut([RUN_OF_10 | {"heartRateData": points}]))
    rates = parsed.of("workout_heart_rate")
    assert [row["unit"] for row in rates] == ["count/min", "moons", "m"]
    assert [bool(row["warnings"]) for row in rates] == [False, True, True]


def test_workouts_without_lists_are_few_slices_however_many_they_are() -> None:
    body = json.dumps({"data": {"workouts": [*[{}] * 5000, RUN_OF_10, *[RUN_OF_10 | {"id": n} for n in range(9)]]}})
    parts = divided(body.encode())
    assert sum(len(part.slices) for part in parts) == 2
    found = rows(parts)
    assert [row["index"] for row in found if row["record"] == "workout"] == list(range(5000, 5010))
    assert len(found) == 5010
