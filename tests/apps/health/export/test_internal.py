"""Wide records: every column of every form is read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.apps.health.export import catalogue
from penstock.apps.health.export.forms import FORMS

from .parsing import Parsed, listed
from .test_workouts import anything, garbage, likely

AT = "2026-02-03T07:15:00Z"
WIDE = {name: form for name, form in FORMS.items() if not form.workout}
CASES = [(name, column) for name, form in WIDE.items() for column in form.measured]


def parsed(*records: Any) -> Parsed:
    return Parsed(listed("internal", list(records)))


def record(name: str, /, **columns: Any) -> dict[str, Any]:
    return {"type": name, "id": "1", "user_id": "2", "created_at": AT, FORMS[name].time[0]: AT, **columns}


@pytest.mark.parametrize(("name", "column"), CASES)
def test_l6_every_measured_column_of_every_type_becomes_a_point(name: str, column: str) -> None:
    metric, unit = FORMS[name].measured[column]
    element = record(name, **{column: 36.5})
    row = parsed(element).of(metric)[0]
    assert row["value"] is not None
    assert row["original"] == element
    assert row["original_unit"] == (unit or None)
    known = catalogue.METRICS.get(metric)
    if known and known.unit:
        assert row["unit"] == known.unit


@pytest.mark.parametrize("name", WIDE)
def test_l10_all_columns_of_a_record_are_read_back(name: str) -> None:
    form = WIDE[name]
    columns: dict[str, Any] = dict.fromkeys(form.measured, 1) | {"notes": "text", "tags": ["a"], "flag": False}
    columns |= dict.fromkeys(form.kind, "a") | dict.fromkeys(form.renamed, 2)
    if form.value and form.value[0]:
        columns[form.value[0]] = 3
    element = record(name, **columns)
    found = parsed(element)
    assert not found.quarantined
    assert {row["metric"] for row in found.rows} >= {metric for metric, _ in form.measured.values()}
    assert all(row["original"] == element for row in found.rows)
    fields = {key: value for row in found.rows for key, value in (row["fields"] or {}).items()}
    assert {"notes": "text", "tags": ["a"], "flag": False}.items() <= fields.items()
    assert {form.renamed.get(column, column) for column in (*form.kind, *form.renamed)} <= fields.keys()
    if form.event and form.value and form.value[0]:
        assert [row["value"] for row in found.rows if row["metric"] == form.event] == [3]


def test_l7_events_are_stored_and_read_back() -> None:
    found = parsed(
        record("SafetyEvent", event_type="fall_detected", severity_level=3),
        record("Mindfulness", session_duration_minutes=10, meditation_type="breath"),
        record("MentalHealth", state_of_mind_valence=0.3, mood_rating=5, state_of_mind_labels=["calm"]),
        record("Symptom", symptom_type="headache", severity="mild"),
        record("Hygiene", event_type="handwashing", duration_seconds=20),
        record("Hygiene", event_type="shower", duration_seconds=300),
        record("Metabolic", blood_alcohol_content=0.02, insulin_delivery_units=3, delivery_method="pump"),
    )
    said = [(row["metric"], row["kind"], row["value"]) for row in found.rows]
    assert said == [
        ("safety_events", "fall_detected", None),
        ("mindful_minutes", "breath", 10),
        ("state_of_mind", "", 0.3),
        ("mood_rating", "", 5),
        ("symptoms", "headache", None),
        ("handwashing", "", 20),
        ("hygiene_events", "shower", 300),
        ("blood_alcohol_content", "", 0.02),
        ("insulin_delivery", "", 3),
    ]
    assert found.of("symptoms")[0]["fields"]["severity_code"] == "mild"
    assert found.of("insulin_delivery")[0]["fields"] == {"delivery_method": "pump"}


def test_l9_audio_is_where_audio_belongs() -> None:
    found = parsed(
        record("AudioExposure", environmental_audio_exposure_db=71, exposure_duration_minutes=5),
        record("AudioExposure", exposure_duration_minutes=5, audio_exposure_event=True),
    )
    assert [row["metric"] for row in found.rows] == ["environmental_audio_exposure", "audio_exposure"]
    assert found.rows[1]["fields"] == {"exposure_duration_minutes": 5, "audio_exposure_event": True}


def test_a_night_has_its_stages_in_minutes() -> None:
    night = record("Sleep", sleep_end="2026-02-03T15:15:00Z", duration_minutes=400, light_sleep_minutes=200)
    row = parsed(night).rows[0]
    assert (row["kind"], row["value"], row["unit"]) == ("aggregated", 400, "min")
    assert row["fields"] == {"core": 200}
    assert (row["end_time"] - row["time"]).total_seconds() == 8 * 3600


def test_a_blood_pressure_is_one_point() -> None:
    row = parsed(record("BloodPressure", systolic=300, diastolic=80, pulse=60)).rows[0]
    assert (row["value"], row["unit"]) == (None, "mmHg")
    assert row["fields"] == {"systolic": 300, "diastolic": 80, "pulse": 60}
    assert row["warnings"][0]["warning"] == "suspicious_value"


def test_a_workout_among_metrics_is_a_workout() -> None:
    element = {"type": "Workout", "workout_type": "running", "started_at": AT, "ended_at": "2026-02-03T08:15:00Z"}
    row = parsed(element | {"total_energy_kcal": 100.5, "distance_meters": 5000, "source_device": "Watch"}).rows[0]
    assert (row["record"], row["metric"], row["value"], row["source"]) == ("workout", "running", 3600, "Watch")
    assert row["fields"]["distance"] == {"value": 5000, "unit": "m"}
    assert row["fields"]["total_energy"] == {"value": 100.5, "unit": "kcal"}


def test_l8_a_type_that_no_one_knows_is_stored_under_its_name() -> None:
    row = parsed({"type": "NewThing", "recorded_at": AT, "value": 3, "more": "text"}).rows[0]
    assert (row["metric"], row["value"], row["fields"]) == ("new_thing", 3, {"more": "text"})


def test_l11_what_is_out_of_range_is_kept_and_flagged() -> None:
    found = parsed(record("HeartRate", heart_rate=14), record("Respiratory", oxygen_saturation=68))
    assert [row["value"] for row in found.rows] == [14, 68]
    assert found.warnings() == ["suspicious_value"] * 2


def test_units_of_columns_are_converted() -> None:
    found = parsed(
        record("Nutrition", dietary_water=0.5, dietary_vitamin_d=400),
        record("Respiratory", oxygen_saturation=0.97),
        record("Activity", apple_stand_hour_achieved=True),
    )
    said = [(row["metric"], row["value"], row["unit"]) for row in found.rows]
    assert said == [
        ("dietary_water", 500, "mL"),
        ("vitamin_d", 10, "mcg"),
        ("blood_oxygen_saturation", 97, "%"),
        ("apple_stand_hour", 1, "count"),
    ]


def test_a_column_that_holds_no_number_is_alone_in_quarantine() -> None:
    found = parsed(record("Activity", step_count="many", flights_climbed=2))
    assert [row["path"] for row in found.quarantined] == ["data.internal[0].step_count"]
    assert found.received == {"step_count": 1, "flights_climbed": 1}


@pytest.mark.parametrize(
    ("element", "reason"),
    [
        ({"type": "HeartRate", "heart_rate": 61}, "no time"),
        ({"type": "HeartRate", "heart_rate": 61, "recorded_at": "soon"}, "recorded_at"),
        ({"type": "HeartRate", "recorded_at": AT}, "no value"),
        ({"type": "Symptom", "recorded_at": AT}, "no value"),
        ({"type": "Workout"}, "no time"),
        (None, "object"),
        (3, "object"),
    ],
)
def test_what_cannot_be_read_is_in_quarantine(element: Any, reason: str) -> None:
    found = parsed(element)
    assert len(found.rows) == len(found.quarantined) == 1
    assert reason in found.quarantined[0]["reason"]


names = st.sampled_from([*FORMS, "Other"])
COLUMNS = {column for form in FORMS.values() for column in (*form.measured, *form.kind, *form.time, *form.renamed)}
columns = st.sampled_from(sorted({"end", "source", *COLUMNS}))


@given(elements=st.lists(anything | st.tuples(names, st.dictionaries(columns, likely, max_size=8)), max_size=5))
@settings(max_examples=100, deadline=None)
def test_garbage_never_raises_and_all_of_it_is_accounted_for(elements: list[Any]) -> None:
    said = [each[1] | {"type": each[0]} if isinstance(each, tuple) else each for each in elements]
    found = parsed(*said)
    assert {row["index"] for row in found.rows} == set(range(len(said)))


@given(elements=garbage)
@settings(max_examples=30, deadline=None)
def test_other_garbage_never_raises(elements: list[Any]) -> None:
    assert {row["index"] for row in parsed(*elements).rows} == set(range(len(elements)))
