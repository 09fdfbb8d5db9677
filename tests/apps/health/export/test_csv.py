"""Exports as CSV."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.apps.health.export.slices import Slice

from .parsing import Parsed, listed

A, B = "2026-02-03 07:15:00 +0100", "2026-02-03 07:16:00 +0100"
WIDE = (
    f"\ufeffDate,Heart Rate [Min] (count/min),Heart Rate [Max] (count/min),Heart Rate [Avg] (count/min),"
    f"Step Count (count),VO2 Max (mL/(kg·min)),Blood Pressure [Systolic] (mmHg),Blood Pressure [Diastolic] (mmHg),"
    f"Sleep Analysis [Core] (hr),Sleep Analysis [In Bed] (hr),Weight & Body Mass (lb),Something New (widgets)\n"
    f"{A},60,70,65.5,,40,120,80,4,8,,1\n"
    f"\n"
    f"{B},,,,12,,,,,,171.3,\n"
)


def parsed(text: str, name: str = "export.csv", first: int = 0, field: str = "", **headers: str) -> Parsed:
    one = Slice(section="csv", name=name, path=name, payload=text.encode(), first=first, field=field)
    return Parsed(one, headers=headers)


def test_each_cell_is_a_point_and_columns_of_one_metric_are_one_together() -> None:
    found = parsed(WIDE)
    assert found.received == {
        "heart_rate": 1,
        "step_count": 1,
        "vo2_max": 1,
        "blood_pressure": 1,
        "sleep_analysis": 1,
        "weight_body_mass": 1,
        "something_new": 1,
    }
    assert not found.quarantined
    assert found.part["format"] == "csv"
    rate = found.of("heart_rate")[0]
    assert (rate["minimum"], rate["value"], rate["maximum"], rate["unit"]) == (60, 65.5, 70, "count/min")
    assert rate["time"] == datetime(2026, 2, 3, 6, 15, tzinfo=UTC)
    steps = found.of("step_count")[0]
    assert (steps["value"], steps["index"], steps["offset_minutes"]) == (12, 2, 60)
    assert found.of("vo2_max")[0]["original_unit"] == "mL/(kg·min)"
    assert found.of("blood_pressure")[0]["fields"] == {"systolic": 120, "diastolic": 80}
    night = found.of("sleep_analysis")[0]["fields"]
    assert (night["core"], night["in_bed"]) == (240, 480)
    assert found.of("weight_body_mass")[0]["value"] == pytest.approx(77.7, abs=0.01)
    assert found.of("something_new")[0]["unit"] == "widgets"


def test_a_point_says_the_same_as_in_json() -> None:
    by_csv = parsed(f"Date,Step Count (count),Source\n{A},12,Watch\n").rows
    by_json = Parsed(
        listed("metrics", [{"date": A, "qty": 12, "source": "Watch"}], name="step_count", units="count")
    ).rows
    assert by_csv == by_json


def test_semicolons_and_decimal_commas() -> None:
    found = parsed("Datum;x\n").rows + parsed(f"Date;Active Energy (kJ);Step Count (count)\n{A};1.061,5;12\n").rows
    assert [(row["type"], row["original"]["qty"]) for row in found] == [("active_energy", 1061.5), ("step_count", 12)]


def test_quoted_cells_and_other_line_ends() -> None:
    found = parsed(f'"Date","Step Count (count)","Source"\r\n"{A}","12","Watch, ""left"""\r\n')
    assert found.rows[0]["source"] == 'Watch, "left"'


@pytest.mark.parametrize("cell", ["abc", "1e999", "12 count", "1,234", "--1", "nan"])
def test_a_bad_cell_is_in_quarantine_with_row_and_column(cell: str) -> None:
    found = parsed(f'Date,Step Count (count),Heart Rate [Min] (count/min)\n{A},1,60\n{B},"{cell}",61\n', first=10)
    bad = found.quarantined[0]
    assert (bad["type"], bad["index"], bad["path"]) == ("step_count", 11, "export.csv.Step Count (count)[11]")
    assert "Step Count (count): expected a number" in bad["reason"]
    assert len(found.rows) == 4


def test_a_bad_date_costs_the_points_of_its_row() -> None:
    found = parsed(f"Date,Step Count (count),Flights Climbed (count)\ngarbage,1,2\n{A},3,4\n")
    assert [(row["type"], row["index"]) for row in found.quarantined] == [("step_count", 0), ("flights_climbed", 0)]


def test_all_dates_bad() -> None:
    assert len(parsed("Date,Step Count (count)\nx,1\ny,2\n").quarantined) == 2


def test_a_row_with_too_many_cells_is_in_quarantine() -> None:
    found = parsed(f"Date,Active Energy (kJ)\n{A},61,5\n{B},62,\n")
    assert [row["type"] for row in found.rows] == ["csv", "active_energy"]
    assert found.quarantined[0]["payload"] == f"{A},61,5"


def test_a_quote_that_is_not_closed_costs_its_line_only() -> None:
    found = parsed(f'Date,Step Count (count)\n{A},"60\n{B},61\n{B},62\n')
    assert [row["index"] for row in found.quarantined] == [0]
    assert [row["value"] for row in found.of("step_count")] == [61, 62]


def test_without_dates_all_rows_are_in_quarantine() -> None:
    found = parsed("a,b\n1,2\n3,4\n")
    assert found.received == {"csv": 2}
    assert "no column of dates" in found.quarantined[0]["reason"]


@pytest.mark.parametrize("text", ["", "\n", "Date\n", "Date,Step Count (count)\n", f"Date,Step Count (count)\n{A},\n"])
def test_where_there_is_nothing_nothing_was_received(text: str) -> None:
    assert parsed(text).received == {}


def test_one_row_for_each_point() -> None:
    found = parsed(
        "name,date,qty,units,source,note\n"
        f"step_count,{A},5,count,Watch,\n"
        f"Heart Rate,{A},61,count/min,Watch,resting\n"
        f",{A},5,count,Watch,\n"
        f"step_count,{B},x,count,Watch,\n"
    )
    assert found.of("step_count")[0]["value"] == 5
    assert found.of("heart_rate")[0]["fields"] == {"note": "resting"}
    assert sorted((row["type"], row["reason"][:12]) for row in found.quarantined) == [
        ("csv", "no metric is"),
        ("step_count", "qty: expecte"),
    ]


def test_without_names_the_file_says_the_metric() -> None:
    found = parsed(f"Start,End,Value,Qty (hr)\n{A},{B},Core,0.2\n", name="a/Sleep Analysis.csv")
    row = found.of("sleep_analysis")[0]
    assert (row["kind"], row["end_time"]) == ("core", datetime(2026, 2, 3, 6, 16, tzinfo=UTC))


def test_workouts() -> None:
    found = parsed(
        "Workout Type,Start,End,Duration,Total Energy (kcal),Avg Heart Rate (bpm),Location\n"
        f"Outdoor Run,{A},2026-02-03 07:45:00 +0100,0:30:00,300,150,Park\n"
        f"Outdoor Run,,{A},0:30:00,300,150,Park\n",
        name="workouts.csv",
    )
    row = found.of("workouts")[0]
    assert (row["record"], row["metric"], row["value"]) == ("workout", "Outdoor Run", 1800)
    assert row["fields"] == {
        "duration": 1800,
        "total_energy": {"value": 300, "unit": "kcal"},
        "avg_heart_rate": {"value": 150, "unit": "count/min"},
        "location": "Park",
    }
    assert [row["index"] for row in found.quarantined] == [1]


def test_a_column_that_is_there_twice_is_read_twice() -> None:
    found = parsed(f"Date,Step Count (count),Step Count (count)\n{A},1,2\n")
    assert [(row["value"], row["ordinal"]) for row in found.rows] == [(1, 0), (2, 1)]


def test_many_rows() -> None:
    lines = [f"2026-02-03 {at // 60:02}:{at % 60:02}:00 +0100,{at},{at}" for at in range(1440)]
    found = parsed("Date,Step Count (count),Flights Climbed (count)\n" + "\n".join(lines) + "\n")
    assert found.received == {"step_count": 1440, "flights_climbed": 1440}


cells = st.text(alphabet='0123456789,;"\t.:-+[]()aDatex \r\x00é', max_size=12)
heads = st.sampled_from(["Date", "Start", "End", "Name", "qty", "Value", "units", "Workout Type", "Step Count (count)"])


@given(
    header=st.lists(heads | cells, max_size=5),
    rows=st.lists(st.lists(cells | st.sampled_from([A, "1"]), max_size=6), max_size=6),
    separator=st.sampled_from(",;\t"),
)
@settings(max_examples=150, deadline=None)
def test_garbage_never_raises(header: list[str], rows: list[list[str]], separator: str) -> None:
    parsed("\n".join(separator.join(each) for each in [header, *rows]) + "\n")


def test_bytes_that_are_no_text() -> None:
    payload: Any = b"Date,Step Count (count)\n" + A.encode() + b",\xff\n"
    found = Parsed(Slice(section="csv", name="x", path="x", payload=payload))
    assert len(found.quarantined) == 1


SYMPTOMS = "Start,End,Name,Severity,User Entered,Source\n{A},{B},Headache,Moderate,true,Health\n"
MIND = (
    "Start,End,Kind,Labels,Associations,Valence,Valence Classification\n"
    '{A},{A},momentary_emotion,"calm, happy",family,0.4,pleasant\n'
)
ECG = (
    "Start,End,Classification,Average Heart Rate (count/min),Number of Voltage Measurements,Sampling Frequency (Hz),"
    "Source\n"
    "{A},{B},Sinus Rhythm,62,15379,512.6,Watch\n"
)
NOTIFICATIONS = "Start,End,Heart Notification,Threshold\n{A},{B},low_heart_rate_notification,40\n"
MEDICATIONS = (
    "Start,Scheduled Date,Display Text,Dosage,Status,Is Archived\n"
    "{A},{A},Ibuprofen,2,Taken,false\n{B},{B},Ibuprofen,1,Skipped,no\n"
)
CYCLE = "Start,End,Name,Value,Is Cycle Start\n{A},{B},Menstrual Flow,Light,true\n"
EVENTS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "symptoms": (
        SYMPTOMS,
        [{"start": A, "end": B, "name": "Headache", "severity": "Moderate", "userEntered": True, "source": "Health"}],
    ),
    "stateOfMind": (
        MIND,
        [
            {"start": A, "end": A, "kind": "momentary_emotion", "labels": ["calm", "happy"], "associations": ["family"]}
            | {"valence": 0.4, "valenceClassification": "pleasant"}
        ],
    ),
    "ecg": (
        ECG,
        [
            {"start": A, "end": B, "classification": "Sinus Rhythm", "averageHeartRate": 62, "source": "Watch"}
            | {"numberOfVoltageMeasurements": 15379, "samplingFrequency": 512.6}
        ],
    ),
    "heartRateNotifications": (
        NOTIFICATIONS,
        [{"start": A, "end": B, "heartNotification": "low_heart_rate_notification", "threshold": 40}],
    ),
    "medications": (
        MEDICATIONS,
        [
            {"start": at, "scheduledDate": at, "displayText": "Ibuprofen", "dosage": dose, "status": status}
            | {"isArchived": False}
            for at, dose, status in ((A, 2, "Taken"), (B, 1, "Skipped"))
        ],
    ),
    "cycleTracking": (
        CYCLE,
        [{"start": A, "end": B, "name": "Menstrual Flow", "value": "Light", "isCycleStart": True}],
    ),
}
FIELDS = {
    **{
        "symptoms": "SymptomsData",
        "stateOfMind": "StateOfMindData",
        "ecg": "ECGData",
        "medications": "MedicationsData",
    },
    **{"heartRateNotifications": "HeartRateNotificationsData", "cycleTracking": "CycleTrackingData"},
}
FILES = {
    **{"symptoms": "Symptoms.csv", "stateOfMind": "HealthAutoExport-StateOfMind-2026-02-03.csv", "ecg": "ECG-2026.csv"},
    **{"heartRateNotifications": "heart_rate_notifications.csv", "cycleTracking": "Cycle Tracking.csv"},
    "medications": "a/b/Medications.csv",
}


@pytest.mark.parametrize("told", ["field", "file", "header"])
@pytest.mark.parametrize("section", EVENTS)
def test_an_event_says_the_same_as_in_json(section: str, told: str) -> None:
    text, elements = EVENTS[section]
    if told == "field":
        found = parsed(text.format(A=A, B=B), name="upload.csv", field=FIELDS[section])
    else:
        found = parsed(text.format(A=A, B=B), name=FILES[section] if told == "file" else "export.csv")
    assert found.rows == Parsed(listed(section, elements)).rows
    assert not found.quarantined


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("Date,Left,Right\n{A},20,25\n", "VisionData"),
        ("Start,End,Name,Colour\n{A},{B},Headache,red\n", ""),
        ("Date,Some Text\n{A},hello\n", "whatever"),
        ("Date,Voltage (mcV)\n{A},12.5\n", "ECGData"),
        ("Start,Severity\n{A},Mild\n", "SymptomsData"),
        ("Name,Severity\nHeadache,Mild\n", "SymptomsData"),
        ("Date,Dosage\n{A},3\n", "MedicationsData"),
        ("Start,Distance (km)\n{A},3\n", "WorkoutsData"),
    ],
)
def test_rows_of_a_kind_that_is_not_known_are_quarantined_with_a_reason(text: str, field: str) -> None:
    found = parsed(text.format(A=A, B=B), field=field)
    assert found.received == {"csv": 1}
    [row] = found.quarantined
    assert "expected" in row["reason"] or "not known" in row["reason"]


def test_an_event_without_a_time_is_quarantined_alone() -> None:
    text = f"Start,End,Name,Severity\n{A},,Headache,Mild\nx,,Fever,Mild\n"
    found = parsed(text, field="SymptomsData")
    assert [row["index"] for row in found.of("symptoms")] == [0]
    assert [(row["type"], row["index"]) for row in found.quarantined] == [("symptoms", 1)]


def test_workouts_call_things_as_json_does() -> None:
    found = parsed(
        "Workout Type,Start,End,Duration (min),Active Energy (kcal),Max Heart Rate (bpm),Average Heart Rate (bpm),"
        "Elevation Ascended (m),Elevation Descended (m),Average Speed (km/hr),Swim Stoke Cadence (spm)\n"
        f"Outdoor Run,{A},2026-02-03 07:45:00 +0100,9.2,300,170,150,12,13,9,20\n"
    )
    fields = found.of("workouts")[0]["fields"]
    assert fields.pop("duration") == pytest.approx(552)
    assert list(fields) == sorted(fields)
    assert set(fields) == {
        *("active_energy_burned", "max_heart_rate", "avg_heart_rate", "elevation_up", "elevation_down"),
        *("avg_speed", "swim_cadence"),
    }


@pytest.mark.parametrize(
    ("zone", "time", "expected"),
    [
        ("America/New_York", "2026-07-11 00:00:00", "2026-07-11T04:00:00"),
        ("America/New_York", "2026-01-11 12:30:00 AM", "2026-01-11T05:30:00"),
        ("+05:30", "2026-07-11", "2026-07-10T18:30:00"),
        ("Europe/Berlin", "2026-10-25 02:30:00", "2026-10-25T00:30:00"),  # twice; the first
        ("Europe/Berlin", "2026-07-11 00:00:00 +0000", "2026-07-11T00:00:00"),
        ("", "2026-07-11 00:00:00", "2026-07-11T00:00:00"),
    ],
)
def test_times_without_an_offset_are_those_of_the_zone(zone: str, time: str, expected: str) -> None:
    headers = {"timezone": zone} if zone else {}
    for text in (f"Date/Time,Step Count (count)\n{time},1\n", f"Start,Name,Severity\n{time},Headache,Mild\n"):
        found = parsed(text, **headers)
        assert found.rows[0]["time"] == datetime.fromisoformat(f"{expected}+00:00")
        assert ("assumed_utc" in found.warnings()) == (not zone)


def test_symptoms_in_the_field_of_metrics_are_symptoms() -> None:
    text = f"Start,End,Name,Severity\n{A},{B},Nausea,Mild\n"
    found = parsed(text, name="HealthMetrics.csv", field="HealthData")
    assert found.received == {"symptoms": 1}
    assert not found.quarantined
    assert found.of("symptoms")[0]["fields"].items() >= {"name": "Nausea", "severity_code": "mild"}.items()


@pytest.mark.parametrize(
    ("field", "header", "cells", "name", "said"),
    [
        ("HeartRateNotificationsData", "Name,Heart Rate (bpm)", "High Heart Rate,131", "heart_rate", 131),
        ("MedicationsData", "Medication,Status,Archived", "Iron,Taken,false", "is_archived", False),
        ("CycleTrackingData", "Name,Value,Start of Cycle", "Flow,Light,TRUE", "is_cycle_start", True),
    ],
)
def test_numbers_and_truths_of_events_are_as_in_json(field: str, header: str, cells: str, name: str, said: Any) -> None:
    [row] = parsed(f"Date,{header}\n{A},{cells}\n", field=field).rows
    assert repr(row["fields"][name]) == repr(said)
