"""Every sample is sent to the whole service, and every element of it is read back through the API."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from benchmarks import exports as real

from .exports import (
    SAMPLES,
    canonical,
    conserved,
    date,
    edge_cases,
    elements,
    minutes,
    shapes,
    shuffled,
    steps,
    tally,
)
from .service import UNLIMITED, Phone, Service

OTHERS = sorted(path for path in SAMPLES.glob("*/*.json") if "own" not in path.parent.name)
MALFORMED = "marshal_05_input_malformed.json"
FAHRENHEIT = ("degF", "degC")
CONVERTED = {
    ("kJ", "kcal"): 1 / 4.184,
    ("mi", "m"): 1609.344,
    ("km", "m"): 1000.0,
    ("yd", "m"): 0.9144,
    ("ft", "m"): 0.3048,
    ("ft", "cm"): 30.48,
    ("in", "cm"): 2.54,
    ("lb", "kg"): 0.45359237,
    ("mmol/L", "mg/dL"): 18.0156,
    ("fl_oz_us", "mL"): 29.5735295625,
    ("km/hr", "m/s"): 1 / 3.6,
    ("ft/s", "m/s"): 0.3048,
    ("mL/min·kg", "mL/(kg·min)"): 1.0,
    ("hr", "min"): 60.0,
    ("bpm", "count/min"): 1.0,
    ("S", "mcS"): 1e6,
    ("m", "cm"): 100.0,
}
"""What the units of the samples become, and by what factor; a unit that is not here stays."""
SI = {
    "active_energy": ("kcal", 88.1 / 4.184),
    "body_temperature": ("degC", (98.4 - 32) / 1.8),
    "cycling_distance": ("m", 7200.0),
    "swimming_distance": ("m", 50 * 0.9144),
    "waist_circumference": ("cm", 33 * 2.54),
    "walking_running_distance": ("m", 0.41 * 1609.344),
    "walking_speed": ("m/s", 4.8 / 3.6),
    "weight_body_mass": ("kg", 171.3 * 0.45359237),
}


class Sent(NamedTuple):
    """All shapes, once they are sent and read back."""

    phone: Phone
    export: Any
    told: Any
    stored: dict[str, list[Any]]


@pytest.fixture(scope="module")
def _sent() -> dict[str, Sent]:
    return {}


@pytest.fixture
def sent(service: Service, _sent: dict[str, Sent]) -> Sent:
    """All shapes, sent once to each service for all tests that only read them."""
    if service.address not in _sent:
        phone, export = service.phone(), shapes()
        _sent[service.address] = Sent(phone, export, phone.send(export), phone.stored())
    return _sent[service.address]


def read_back(phone: Phone, *exports: Any) -> None:
    """Check that what is stored is what was sent, no less and no more."""
    sent = tally(element for export in exports for _, element in elements(export))
    found = tally(row["original"] for rows in phone.stored().values() for row in rows)
    assert sent.keys() == found.keys()


def test_l19_every_element_of_all_shapes_is_read_back_as_it_was_sent(sent: Sent) -> None:
    told, stored, expected = sent.told, sent.stored, list(elements(sent.export))
    assert (told["state"], told["quarantined"], conserved(told)["received"]) == ("processed", 0, len(expected))
    assert sum(map(len, stored.values())) == told["stored"] == len(expected) - told["unchanged"]
    found = tally(row["original"] for rows in stored.values() for row in rows)
    assert found.keys() == tally(element for _, element in expected).keys()
    for metric in sent.export["data"]["metrics"]:
        points = sent.phone.points(metric["name"])
        kept = {(canonical(point["original"]), point["original_unit"]) for point in points}
        for point in metric["data"] or []:
            of_units = {units for original, units in kept if original == canonical(point)}
            assert metric["units"] in of_units, (metric["name"], of_units)


def test_l19_every_number_of_all_shapes_is_in_the_unit_of_its_metric(sent: Sent) -> None:
    checked = 0
    for name, rows in sent.stored.items():
        for row in rows:
            given, unit, original = row["original_unit"], row.get("unit"), row["original"]
            for key, column in (("qty", "value"), ("Avg", "value"), ("Min", "minimum"), ("Max", "maximum")):
                if isinstance(original.get(key), int | float):
                    expected = _converted(name, original[key], given, unit)
                    assert row[column] == pytest.approx(expected, rel=1e-4), (name, row)
                    checked += 1
    assert checked > 150
    for name, (unit, value) in SI.items():
        assert any(row["unit"] == unit and row["value"] == pytest.approx(value) for row in sent.stored[name]), name


def _converted(name: str, number: float, given: str, unit: str) -> float:
    if (given, unit) == FAHRENHEIT:
        return (number - 32) / 1.8
    if given == unit:
        return number * 100 if name == "blood_oxygen_saturation" and number < 1 else number
    return number * CONVERTED[given, unit]


def test_l10_every_field_of_every_section_is_read_back(sent: Sent) -> None:
    export, stored = sent.export["data"], sent.stored

    def fields(metric: str, kind: str) -> Any:
        [row] = [row for row in stored[metric] if row["kind"] == kind]
        return row["fields"]

    assert fields("symptoms", "Headache") == {
        "name": "Headache",
        "name_code": "headache",
        "severity": "Mild",
        "severity_code": "mild",
        "user_entered": True,
    }
    assert fields("cycle_tracking", "Menstrual Flow")["is_cycle_start"] is True
    [mind], [mood] = export["stateOfMind"], stored["state_of_mind"]
    assert (mood["value"], mood["fields"]["labels"]) == (mind["valence"], mind["labels"])
    [pressure] = stored["blood_pressure"]
    assert pressure["fields"] == {"systolic": 121, "diastolic": 79}
    assert {row["fields"]["meal_time"] for row in stored["blood_glucose"]} == {"Before Meal", "Unspecified"}
    nights = [row["fields"] for row in stored["sleep_analysis"] if row["kind"] == "aggregated"]
    assert [pytest.approx(night["deep"]) for night in nights if "deep" in night] == [66]
    [ecg], [recorded] = export["ecg"], stored["ecg"]
    assert recorded["original"] == {name: value for name, value in ecg.items() if not isinstance(value, list)}
    voltages = stored["ecg_voltage"]
    assert [row["original"] for row in voltages] == ecg["voltageMeasurements"]
    assert [row["value"] for row in voltages] == [one["voltage"] for one in ecg["voltageMeasurements"]]
    assert len(stored["medications"]) == len(export["medications"])
    assert len(stored["heart_rate_notifications"]) == len(export["heartRateNotifications"])


def test_l9_workouts_are_read_back_with_series_and_routes(sent: Sent) -> None:
    rows = sent.phone.get("/api/v1/workouts")["data"]
    assert len(rows) == len(sent.export["data"]["workouts"]) == 2
    for workout in sent.export["data"]["workouts"]:
        [row] = [row for row in rows if row["name"] == workout["name"]]
        assert row["has_route"]
        assert row["id"] == workout.get("id", row["id"])
        _check_workout(sent.phone, workout, row)


def _check_workout(phone: Phone, workout: Any, row: Any) -> None:
    path = f"/api/v1/workouts/{row['id']}"
    lists = {name: value for name, value in workout.items() if isinstance(value, list)}
    whole = phone.get(path)["data"]
    assert whole["original"] == {name: value for name, value in workout.items() if name not in lists}
    route = lists.pop("route")
    assert tally(point["original"] for point in phone.pages(f"{path}/route", format="json")) == tally(route)
    line = phone.get(f"{path}/route")["geometry"]
    places = {(point.get("longitude", point.get("lon")), point.get("latitude", point.get("lat"))) for point in route}
    found_places = line["coordinates"] if line["type"] == "LineString" else [line["coordinates"]]
    assert {tuple(place[:2]) for place in found_places} == places
    found = {name: list(phone.pages(f"{path}/series/{name}")) for name in row["series"]}
    originals = tally(point["original"] for points in found.values() for point in points)
    assert originals == tally(point for points in lists.values() for point in points)
    assert sorted(map(len, found.values())) == sorted(map(len, lists.values()))


@pytest.mark.parametrize(("name", "export"), edge_cases(), ids=[name for name, _ in edge_cases()])
def test_l19_edge_cases_are_accounted_for_to_the_last_point(service: Service, name: str, export: Any) -> None:
    phone = service.phone()
    told = phone.send(export)
    sent = list(elements(export))
    counts = conserved(told)
    assert (told["state"], counts["received"]) == ("processed", len(sent))
    held = phone.get("/api/v1/quarantine")["data"]
    assert counts["quarantined"] == len(held) == (5 if name == "bad points among good" else 0)
    stored = tally(row["original"] for rows in phone.stored().values() for row in rows)
    assert stored + tally(point["payload"] for point in held) == tally(element for _, element in sent)
    for point in held:
        assert point["reason"]
        assert point["path"] == f"data.metrics[0].data[{point['index']}]"
        assert export["data"]["metrics"][0]["data"][point["index"]] == point["payload"]


def test_l22_edge_cases_one_after_another_leave_the_latest_of_each_bucket(phone: Phone) -> None:
    told = {name: conserved(phone.send(export)) for name, export in edge_cases()}
    assert told["workouts outside data"]["unchanged"] == told["unwrapped"]["stored"] == 4
    assert told["two values same second two sources"]["updated"] == 1
    assert told["revised bucket (send after first)"]["updated"] == 1
    assert [row["value"] for row in phone.points("step_count", source="Watch A")] == [900]
    history = phone.get("/api/v1/metrics/step_count/history", sort="asc")["data"]
    assert [row["value"] for row in history] == [1, 5, 1]


@pytest.mark.parametrize("path", OTHERS, ids=[path.name for path in OTHERS])
def test_exports_of_others_are_read_back(on_sqlite: Service, path: Any) -> None:
    phone, body = on_sqlite.phone(), path.read_bytes()
    told = phone.send(body)
    if path.name == MALFORMED:
        assert (told["state"], told["received"]) == ("failed", 0)
        assert told["message"]
    else:
        export = json.loads(body)
        assert conserved(told)["received"] == len(list(elements(export)))
        assert (told["quarantined"], told["state"]) == (0, "processed")
        read_back(phone, export)
    assert phone.call("GET", f"/api/v1/ingest/{told['id']}/raw").content == body


def test_the_same_payload_twice_changes_nothing(phone: Phone) -> None:
    export = shapes()
    phone.send(export)
    before = phone.stored()
    answer = phone.call("POST", "/api/v1/ingest", json.dumps(export).encode(), content_type="application/json")
    told = answer.json
    assert (answer.status, told["success"], told["duplicate"]) == (200, True, True)
    assert conserved(told)["unchanged"] == told["received"] == len(list(elements(export)))
    assert phone.stored() == before


def test_the_same_with_its_keys_in_another_order_changes_nothing(phone: Phone) -> None:
    export = shapes()
    phone.send(export)
    before = phone.stored()
    told = phone.send(shuffled(export))
    assert conserved(told)["unchanged"] == told["received"] == len(list(elements(export)))
    assert phone.stored() == before
    assert all(not phone.get(f"/api/v1/metrics/{name}/history")["data"] for name in ("step_count", "workouts", "ecg"))


def test_l16_an_overlapping_window_with_new_values_updates_and_keeps_what_was_known(phone: Phone) -> None:
    first = phone.send(minutes(0, 100))
    second = phone.send(minutes(50, 100, qty=7))
    assert conserved(first)["stored"] == 100
    counts = conserved(second)
    assert (counts["stored"], counts["updated"], counts["unchanged"]) == (50, 50 - (7 in range(50, 100)), 0)
    rows = phone.points("step_count")
    assert [row["value"] for row in rows] == [*range(50), *([7] * 100)]
    history = list(phone.pages("/api/v1/metrics/step_count/history", limit=7, sort="asc"))
    assert [row["value"] for row in history] == list(range(50, 100))
    assert {row["replaced_by"] for row in history} == {second["id"]}
    assert {row["ingest"] for row in history} == {first["id"]}


def test_l20_two_sources_in_one_second_stay_two_points(phone: Phone) -> None:
    phone.send(steps((date(0), 5), source="Watch"))
    told = phone.send(steps((date(0), 7), source="Phone"))
    assert conserved(told)["stored"] == 1
    assert [(row["source"], row["value"]) for row in phone.points("step_count")] == [("Phone", 7), ("Watch", 5)]


def test_all_points_of_a_payload_like_a_real_one_are_read_back_by_paging(phone: Phone) -> None:
    body = real.body()
    export = json.loads(body)
    sent = list(elements(export))
    assert len(sent) == 16_144
    told = phone.send(body)
    assert (conserved(told)["stored"], told["status"], told["bytes"]) == (len(sent), 202, len(body))
    assert len(told["types"]) == len(export["data"]["metrics"]) == 27
    for metric in export["data"]["metrics"]:
        rows = phone.points(metric["name"], limit=997)
        assert tally(row["original"] for row in rows) == tally(metric["data"])
        assert {row["original_unit"] for row in rows} == {metric["units"]}
        times = [row["time"] for row in rows]
        assert times == sorted(times)


def test_l14_a_phone_that_catches_up_is_not_stopped_by_the_limits_that_are_shipped(
    serve: Callable[..., Service],
) -> None:
    service = serve()
    for name in UNLIMITED:
        del service.environment[name]
    phone = service.start().phone()
    sent = [phone.send(minutes(60 * hour, 60), session_id=f"S-{hour}") for hour in range(55)]
    assert sum(conserved(told)["stored"] for told in sent) == 55 * 60
    assert phone.get("/api/v1/auth/rate-limit")["data"]["ingest"]["remaining"] == 0
    assert phone.metrics()["step_count"]["count"] == 55 * 60
