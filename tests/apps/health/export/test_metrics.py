from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from penstock.apps.health.export.slices import Slice

from .parsing import ALL_SHAPES, SAMPLES, Parsed

DATE = "2026-02-03 07:15:00 +0100"
TIME = datetime(2026, 2, 3, 6, 15, tzinfo=UTC)


def metric(name: str, units: str | None, points: Any, **values: Any) -> Slice:
    payload = points if isinstance(points, bytes) else json.dumps(points).encode()
    return Slice(section="metrics", name=name, units=units, path="data.metrics[0].data", payload=payload, **values)


def parsed(name: str, units: str | None, *points: Any) -> Parsed:
    return Parsed(metric(name, units, list(points)))


def row(name: str, units: str | None, point: Any) -> dict[str, Any]:
    found = parsed(name, units, point)
    assert not found.quarantined, found.quarantined[0]["reason"]
    [one] = found.rows
    return one


def test_a_common_point_is_a_row_with_all_it_says() -> None:
    point = {"date": DATE, "qty": 88.1, "source": "Watch A|Phone’s"}
    found = row("active_energy", "kJ", point)
    assert found | {"value": None} == {
        **dict.fromkeys(found),
        "record": "point",
        "ingest": "0190d5a0-0000-7000-8000-000000000000",
        "user": 1,
        "type": "active_energy",
        "metric": "active_energy",
        "index": 0,
        "time": TIME,
        "end_time": TIME + timedelta(minutes=1),
        "period": 60,
        "source": "Phone's|Watch A",
        "kind": "",
        "ordinal": 0,
        "unit": "kcal",
        "original": point,
        "original_unit": "kJ",
        "offset_minutes": 60,
    }
    assert found["value"] == pytest.approx(88.1 / 4.184)


def test_l10_of_a_heart_rate_the_least_and_the_greatest_are_kept_too() -> None:
    found = row("heart_rate", "bpm", {"date": DATE, "Min": 61, "Avg": 64.5, "Max": 70, "source": "Watch A"})
    assert (found["minimum"], found["value"], found["maximum"], found["unit"]) == (61, 64.5, 70, "count/min")
    found = row("heart_rate", "count/min", {"date": DATE, "Min": 62, "Max": 71})
    assert (found["minimum"], found["value"], found["maximum"]) == (62, None, 71)
    found = row("heart_rate", "count/min", {"date": DATE, "min": 62, "avg": 65, "max": 71})
    assert (found["minimum"], found["value"], found["maximum"]) == (62, 65, 71)
    assert row("heart_rate", "count/min", {"date": DATE, "qty": 66})["value"] == 66


def test_a_blood_pressure_is_one_point() -> None:
    found = row("blood_pressure", "kPa", {"date": DATE, "systolic": 16, "diastolic": "10.5"})
    assert found["value"] is None
    assert found["unit"] == "mmHg"
    assert found["fields"] == {"systolic": pytest.approx(120.0098), "diastolic": pytest.approx(78.7564)}


def test_what_else_a_point_says_is_in_its_fields() -> None:
    found = row("blood_glucose", "mmol/L", {"date": DATE, "qty": 5.8, "mealTime": "Before Meal"})
    assert found["value"] == pytest.approx(104.4904)
    assert found["fields"] == {"meal_time": "Before Meal", "meal_time_code": "before_meal"}
    found = row("insulin_delivery", "IU", {"date": DATE, "qty": 3, "reason": "Bolus"})
    assert found["fields"] == {"reason": "Bolus", "reason_code": "bolus"}
    found = row("toothbrushing", "s", {"date": DATE, "qty": 95, "value": "Incomplete"})
    assert (found["value"], found["fields"]) == (95, {"value": "Incomplete", "value_code": "incomplete"})
    found = row("handwashing", "s", {"date": DATE, "qty": 20, "value": "Terminé"})
    assert found["fields"] == {"value": "Terminé"}
    found = row("handwashing", "s", {"date": DATE, "qty": 20, "value": 0})
    assert (found["value"], found["fields"]) == (20, {"value": 0})
    found = row("step_count", "count", {"date": DATE, "qty": 20, "device": {"model": "x"}, "none": None})
    assert found["fields"] == {"device": {"model": "x"}}


def test_sexual_activity_is_counted_over_its_kinds() -> None:
    point = {"date": DATE, "Unspecified": 1, "Protection Used": 0, "Protection Not Used": 1}
    found = row("sexual_activity", "count", point)
    assert found["value"] == 2
    assert found["fields"] == {"unspecified": 1, "protection_used": 0, "protection_not_used": 1}


def test_a_value_that_has_no_quantity_is_taken_if_it_is_a_number() -> None:
    assert (
        row("HKQuantityTypeIdentifierStepCount", None, {"startDate": DATE, "value": 12, "unit": "count"})["value"] == 12
    )
    found = row("handwashing", "s", {"date": DATE, "value": "Complete"})
    assert (found["value"], found["fields"]["value_code"]) == (None, "complete")


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        (None, "expected an object, got null"),
        ([1], "expected an object, got [1]"),
        ("x", 'expected an object, got "x"'),
        ({"qty": 4}, "expected a date, got nothing"),
        ({"date": None, "qty": 4}, "expected a date, got nothing"),
        ({"date": "garbage", "qty": 3}, "expected a date such as 2026-02-03 07:15:00 +0100, got 'garbage'"),
        ({"date": DATE}, "no value: expected a number under qty, or another value"),
        ({"date": DATE, "qty": None}, "no value: expected a number under qty, or another value"),
        ({"date": DATE, "qty": "many"}, 'qty: expected a number, got "many"'),
        ({"date": DATE, "qty": True}, "qty: expected a number, got true"),
        ({"date": DATE, "qty": {}}, "qty: expected a number, got {}"),
        ({"date": DATE, "qty": 10**400}, "qty: expected a number, got 1000000"),
        ({"date": DATE, "Min": "low", "Max": 7}, 'Min: expected a number, got "low"'),
    ],
)
@pytest.mark.parametrize("others", [0, 20])
def test_a_bad_point_is_quarantined_alone(point: Any, reason: str, others: int) -> None:
    good = [{"date": DATE, "qty": n} for n in range(others)]
    found = parsed("step_count", "count", *good, point, *good)
    [bad] = found.quarantined
    assert bad["reason"].startswith(reason)
    assert bad["index"] == others
    assert bad["path"] == f"data.metrics[0].data[{others}]"
    assert json.loads(bad["payload"]) == point
    assert found.received == {"step_count": 2 * others + 1}
    assert [one["index"] for one in found.of("step_count")] == [*range(others), *range(others + 1, 2 * others + 1)]


def test_the_place_in_the_list_counts_from_its_beginning() -> None:
    found = Parsed(metric("step_count", "count", [{"date": DATE, "qty": 1}, None], first=8192))
    assert [(one["record"], one["index"]) for one in found.rows] == [("quarantined", 8193), ("point", 8192)]


def test_a_number_in_a_text_is_a_number() -> None:
    found = row("step_count", "count", {"date": DATE, "qty": " 12.5 "})
    assert found["value"] == 12.5
    assert found["original"]["qty"] == " 12.5 "


def test_an_element_that_is_no_json_is_quarantined_alone() -> None:
    points = b'[{"date":"%s","qty":1},{"date":"%s","qty":NaN},{"source":"\\ud800"},{"qty":1e999}]' % (
        (DATE.encode(),) * 2
    )
    found = Parsed(metric("step_count", "count", points))
    assert found.received == {"step_count": 4}
    assert [one["index"] for one in found.quarantined] == [1, 2, 3]
    assert "NaN" in found.quarantined[0]["payload"]
    assert "\\ud800" in found.quarantined[1]["payload"]


def test_of_a_key_that_is_there_twice_the_last_counts() -> None:
    found = Parsed(metric("step_count", "count", b'[{"date":"%s","qty":1,"qty":2}]' % DATE.encode()))
    assert found.rows[0]["value"] == 2


def test_l11_a_value_out_of_range_is_kept_and_flagged() -> None:
    found = row("peak_expiratory_flow_rate", "L/min", {"date": DATE, "qty": 40})
    assert found["value"] == 40
    assert found["warnings"] == [
        {"warning": "suspicious_value", "message": "peak_expiratory_flow_rate is 40 L/min, expected from 50 to 800"}
    ]
    assert row("heart_rate", "bpm", {"date": DATE, "qty": 16})["warnings"] is None
    assert row("heart_rate", "bpm", {"date": DATE, "Min": 10, "Avg": 60, "Max": 70})["warnings"] is not None
    found = row("blood_pressure", "mmHg", {"date": DATE, "systolic": 80, "diastolic": 90})
    assert [each["warning"] for each in found["warnings"]] == ["suspicious_value"]
    assert found["fields"] == {"systolic": 80.0, "diastolic": 90.0}


@pytest.mark.parametrize("units", ["furlong", "", None])
def test_a_unit_that_is_not_known_changes_nothing(units: str | None) -> None:
    found = row("walking_running_distance", units, {"date": DATE, "qty": 5})
    assert (found["value"], found["unit"], found["original_unit"]) == (5, units, units)
    assert [each["warning"] for each in found["warnings"]] == ["unknown_unit"]


def test_points_of_one_list_may_have_units_of_their_own() -> None:
    points = [{"date": DATE, "qty": 1, "units": unit} for unit in ("km", "mi", "widgets")] + [{"date": DATE, "qty": 1}]
    found = parsed("cycling_distance", "m", *points).rows
    assert [one["value"] for one in found] == [1000, 1609.344, 1, 1]
    assert [one["unit"] for one in found] == ["m", "m", "widgets", "m"]
    assert [one["original_unit"] for one in found] == ["km", "mi", "widgets", "m"]


@pytest.mark.parametrize(("sent", "stored"), [(0.97, 97), (97, 97), (1, 100), (1.5, 1.5), (0, 0)])
def test_a_saturation_of_at_most_one_is_a_fraction(sent: float, stored: float) -> None:
    assert row("blood_oxygen_saturation", "%", {"date": DATE, "qty": sent})["value"] == stored


def test_a_small_percentage_of_what_can_be_small_stays_small() -> None:
    assert row("walking_asymmetry_percentage", "%", {"date": DATE, "qty": 0.5})["value"] == 0.5


def test_l8_unknown_metrics_are_stored_under_their_own_name() -> None:
    found = row("a_metric_apple_adds_next_year", "widgets", {"date": DATE, "qty": 1, "colour": "red"})
    assert (found["metric"], found["value"], found["unit"]) == ("a_metric_apple_adds_next_year", 1, "widgets")
    assert found["fields"] == {"colour": "red"}
    assert found["warnings"] is None


def test_l20_two_sources_in_one_second_are_two_points() -> None:
    points = [{"date": DATE, "qty": 5, "source": "Watch A"}, {"date": DATE, "qty": 7, "source": "Phone A"}]
    found = parsed("step_count", "count", *points).rows
    assert [(one["source"], one["ordinal"]) for one in found] == [("Watch A", 0), ("Phone A", 0)]


def test_l12_what_is_the_same_twice_has_the_same_number_and_what_differs_another() -> None:
    points = [{"date": DATE, "qty": qty} for qty in (1, 2, 1, 3, 2)]
    assert [one["ordinal"] for one in parsed("step_count", "count", *points).rows] == [0, 1, 0, 2, 1]


def test_l19_twelve_hours_and_narrow_spaces_are_read() -> None:
    for date in ("2026-02-03 7:15:00\u202fAM +0100", "2026-02-03 7:15:00 am +0100"):
        found = row("step_count", "count", {"date": date, "qty": 1})
        assert (found["time"], found["offset_minutes"]) == (TIME, 60)


def test_a_time_without_an_offset_is_flagged() -> None:
    found = row("step_count", "count", {"date": "2026-02-03", "qty": 1})
    assert (found["time"], found["offset_minutes"]) == (datetime(2026, 2, 3, tzinfo=UTC), None)
    assert [each["warning"] for each in found["warnings"]] == ["assumed_utc"]


def test_the_end_of_a_sample_tells_it_apart() -> None:
    point = {"date": DATE, "start": DATE, "end": "2026-02-03 07:20:00 +0100", "qty": 1}
    assert row("step_count", "count", point)["end_time"] == datetime(2026, 2, 3, 6, 20, tzinfo=UTC)
    found = row("step_count", "count", point | {"end": "?"})
    assert found["end_time"] == TIME
    assert [each["warning"] for each in found["warnings"]] == ["unreadable_end"]


def test_l9_every_metric_of_the_sample_is_read_completely() -> None:
    slices = [metric(each["name"], each["units"], each["data"]) for each in ALL_SHAPES["metrics"] if each["data"]]
    found = Parsed(*slices)
    assert not found.quarantined
    assert len(found.rows) == sum(len(each["data"] or []) for each in ALL_SHAPES["metrics"])
    originals = [one["original"] for one in found.rows]
    assert sorted(map(json.dumps, originals)) == sorted(
        json.dumps(dict(sorted(point.items()))) for each in ALL_SHAPES["metrics"] for point in each["data"] or []
    )


def test_bad_points_among_good_ones() -> None:
    lines = (SAMPLES / "own-synthetic" / "hae_edge_cases.jsonl").read_text().splitlines()
    cases = map(json.loads, lines)
    case = next(case for case in cases if case["case"] == "bad points among good")
    [sent] = case["body"]["data"]["metrics"]
    found = parsed(sent["name"], sent["units"], *sent["data"])
    assert sorted(one["index"] for one in found.quarantined) == [1, 2, 3, 5, 6]
    assert [one["value"] for one in found.of("step_count")] == [1, 12]


def test_a_text_that_a_database_refuses_is_made_one_it_takes() -> None:
    found = row("step_count", "count", {"date": DATE, "qty": 1, "source": "a\0b", "note": "x\0y"})
    assert found["source"] == "ab"
    assert found["fields"] == {"note": "x\ufffdy"}
    assert found["original"]["note"] == "x\ufffdy"


def test_a_source_that_no_index_holds_is_shortened_and_still_told_apart() -> None:
    long = ["x" * 5000, "x" * 5000 + "y"]
    found = parsed("step_count", "count", *({"date": DATE, "qty": 1, "source": source} for source in long)).rows
    assert len({one["source"] for one in found}) == 2
    assert all(len(one["source"]) <= 255 for one in found)


@pytest.mark.parametrize("digits", ["1E-400", "1e-324", "-2.5e-0999", "0." + "0" * 400 + "1", '"1E-400"', "1e999"])
@pytest.mark.parametrize("key", ["qty", "Avg", "Min"])
def test_a_number_that_no_computer_can_hold_costs_its_point_alone(key: str, digits: str) -> None:
    good = [f'{{"date":"2026-02-03 07:{n:02}:00 +0100","qty":{n}}}' for n in range(60)]
    bad = f'{{"date":"{DATE}","{key}":{digits},"source":"Watch"}}'
    found = Parsed(metric("step_count", "count", f"[{','.join([*good[:30], bad, *good[30:]])}]".encode()))
    [refused] = found.quarantined
    assert (refused["index"], len(found.of("step_count"))) == (30, 60)
    assert "expected" in refused["reason"]


@pytest.mark.parametrize("sent", [2**53 + 1, -(2**53) - 1, 2**60 + 1, 10**22 + 1])
def test_an_integer_of_more_digits_than_a_float_has_is_flagged(sent: int) -> None:
    found = row("somebodys_metric", "count", {"date": DATE, "qty": sent})
    assert [one["warning"] for one in found["warnings"]] == ["rounded_value"]
    assert (found["value"], found["original"]["qty"]) == (float(sent), sent)
    assert row("somebodys_metric", "count", {"date": DATE, "qty": 2**53})["warnings"] is None


def test_digits_with_underscores_are_no_number() -> None:
    [refused] = parsed("step_count", "count", {"date": DATE, "qty": "1_000"}).quarantined
    assert refused["reason"] == 'qty: expected a number, got "1_000"'


@pytest.mark.parametrize("digits", ["0", "0.0", "-0.0", "0e-500", "5e-324", "1e-300", "1e308", "12e-3"])
def test_zero_and_the_least_and_greatest_numbers_are_as_they_were_sent(digits: str) -> None:
    [one] = Parsed(metric("step_count", "count", f'[{{"date":"{DATE}","qty":{digits}}}]'.encode())).rows
    assert one["value"] == float(digits)


@pytest.mark.parametrize(
    ("name", "unit", "value"),
    [
        ("walking_running_distance", "mi", 1.7e308),
        ("walking_running_distance", "km", -1e308),
        ("body_temperature", "degF", 1e308 * 1.79),
        ("weight_body_mass", "mg", 5e-324),
        ("blood_pressure", "kPa", 1.7e308),
    ],
)
def test_a_number_that_its_unit_makes_too_large_or_too_small_costs_its_point_alone(
    name: str, unit: str, value: float
) -> None:
    key = "systolic" if name == "blood_pressure" else "qty"
    points = [{"date": f"2026-02-03 07:{n:02}:00 +0100", key: 5 + n} for n in range(60)]
    found = parsed(name, unit, *points, {"date": DATE, key: value})
    told = [(one["index"], one["reason"]) for one in found.quarantined]
    if name == "body_temperature":  # Five ninths of it can be held.
        assert told == []
        return
    [(index, reason)] = told
    assert (index, len(found.of(name))) == (60, 60)
    assert reason.startswith("no computer can hold")
    assert unit in reason


def test_what_a_workout_says_in_a_unit_that_makes_it_too_large_stays_as_it_was_sent() -> None:
    from penstock.apps.health.export.lists import converted
    from penstock.apps.health.export.workouts import measured

    assert measured({"qty": 1.7e308, "units": "mi"}) == {"value": 1.7e308, "unit": "mi"}
    units, [values] = converted(["mi", "mi"], "", np.array([1.0, 1.7e308]))
    assert (units, values.tolist()) == (["m", "mi"], [1609.344, 1.7e308])
