"""Electrocardiograms and their voltages."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .parsing import ALL_SHAPES, Parsed, listed
from .test_workouts import anything, garbage, keys, likely

ECG = ALL_SHAPES["ecg"][0]
VOLTAGES = ECG["voltageMeasurements"]
SHELL = {key: value for key, value in ECG.items() if key != "voltageMeasurements"}


def voltages(elements: Any, parent: Any = SHELL) -> Parsed:
    return Parsed(listed("ecg_voltages", elements, name="voltageMeasurements", parent=json.dumps(parent).encode()))


def test_l10_every_field_is_read_back() -> None:
    row = Parsed(listed("ecg", [SHELL])).rows[0]
    assert row["original"] == SHELL
    assert (row["record"], row["type"], row["metric"], row["kind"]) == ("point", "ecg", "ecg", "")
    assert (row["value"], row["unit"], row["source"]) == (63, "count/min", "ECG")
    assert row["end_time"] - row["time"] == timedelta(seconds=30)
    assert row["fields"] == {
        "classification": "Sinus Rhythm",
        "classification_code": "sinus_rhythm",
        "severity": "None",
        "severity_code": "none",
        "average_heart_rate": 63,
        "number_of_voltage_measurements": 4,
        "sampling_frequency": 512.6171875,
        "series": voltages(VOLTAGES).rows[0]["parent"],
    }


def test_l9_voltages_are_to_the_microsecond_and_belong_to_their_electrocardiogram() -> None:
    rows = voltages(VOLTAGES).of("ecg_voltage")
    assert [row["original"] for row in rows] == VOLTAGES
    assert rows[1]["time"] == datetime.fromtimestamp(1770099300, UTC) + timedelta(microseconds=1951)
    assert {(row["record"], row["metric"], row["unit"], row["source"]) for row in rows} == {
        ("series", "ecg_voltage", "mcV", "ECG")
    }
    assert [row["value"] for row in rows] == [each["voltage"] for each in VOLTAGES]


def test_its_id_is_the_same_whatever_the_offset() -> None:
    moved = SHELL | {"start": "2026-02-03 06:15:00 +0000", "end": "2026-02-03 06:15:30 +0000"}
    other = SHELL | {"source": "Other"}
    ids = [voltages(VOLTAGES, parent).rows[0]["parent"] for parent in (SHELL, moved, other)]
    assert ids[0] == ids[1] != ids[2]


def test_documented_dates_are_read_and_voltages_of_one_second_told_apart() -> None:
    elements = [{"date": "2026-02-03 07:15:00 +0100", "voltage": each, "units": "mcV"} for each in (1, 2, 1)]
    rows = voltages(elements).rows
    assert [row["ordinal"] for row in rows] == [0, 1, 0]
    assert {row["time"] for row in rows} == {datetime(2026, 2, 3, 6, 15, tzinfo=UTC)}


def test_units_are_converted() -> None:
    row = voltages([{"date": 1770099300, "voltage": 0.5, "units": "mV"}]).rows[0]
    assert (row["value"], row["unit"], row["original_unit"]) == (500, "mcV", "mV")


@pytest.mark.parametrize(
    ("bad", "reason"), [({"date": 1}, "no voltage"), ({"voltage": 1}, "date"), ({"date": "x", "voltage": 1}, "date")]
)
def test_a_bad_voltage_is_alone_in_quarantine(bad: dict[str, Any], reason: str) -> None:
    parsed = voltages([VOLTAGES[0], bad, VOLTAGES[1]])
    assert [row["index"] for row in parsed.quarantined] == [1]
    assert reason in parsed.quarantined[0]["reason"]


def test_without_a_start_it_and_its_voltages_are_in_quarantine() -> None:
    lost = {**SHELL, "start": None}
    assert len(Parsed(listed("ecg", [lost])).quarantined) == 1
    parsed = voltages(VOLTAGES, lost)
    assert len(parsed.quarantined) == len(VOLTAGES)
    assert "its electrocardiogram cannot be stored" in parsed.quarantined[0]["reason"]


def test_a_whole_recording_is_read_by_columns() -> None:
    elements = [{"date": 1770099300 + at / 512.6, "voltage": at / 7, "units": "mcV"} for at in range(15_379)]
    began = time.process_time()
    parsed = voltages(elements)
    assert len(parsed.of("ecg_voltage")) == 15_379
    assert time.process_time() - began < 10


@pytest.mark.parametrize("section", ["ecg", "ecg_voltages"])
@given(elements=garbage, parent=anything | st.dictionaries(keys, likely))
@settings(max_examples=60, deadline=None)
def test_garbage_never_raises_and_all_of_it_is_accounted_for(section: str, elements: Any, parent: Any) -> None:
    parsed = Parsed(listed(section, elements, parent=json.dumps(parent).encode()))
    assert len(parsed.rows) == len(elements)
