"""Symptoms, cycle, state of mind, medications, and notifications of the heart rate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from penstock.apps.health.export.elements import snake
from penstock.apps.health.export.events import EVENTS

from .parsing import ALL_SHAPES, Parsed, listed
from .test_workouts import garbage

AT = "2026-02-03 07:15:00 +0100"
LATER = "2026-02-03 09:15:00 +0100"
IN_COLUMNS = {"start", "end", "source"}


def parsed(section: str, *elements: Any) -> Parsed:
    return Parsed(listed(section, list(elements)))


def one(section: str, **element: Any) -> dict[str, Any]:
    rows = parsed(section, {"start": AT, **element}).rows
    assert len(rows) == 1
    return rows[0]


@pytest.mark.parametrize("section", EVENTS)
def test_l7_what_was_sent_is_read_back_per_type(section: str) -> None:
    elements = ALL_SHAPES[section]
    found = parsed(section, *elements).of(EVENTS[section].metric)
    assert [row["original"] for row in found] == elements
    assert {row["record"] for row in found} == {"point"}
    for row, element in zip(found, elements, strict=True):
        for key, value in element.items():
            if key not in IN_COLUMNS:
                assert row["fields"][snake(key)] == value
        assert row["time"] == (
            datetime(2026, 2, 3, 18, tzinfo=UTC)
            if section == "stateOfMind"
            else datetime(2026, 2, 3, 6, 15, tzinfo=UTC)
        )


@pytest.mark.parametrize("section", EVENTS)
def test_l6_every_type_quarantines_what_has_no_time_and_keeps_the_rest(section: str) -> None:
    good = ALL_SHAPES[section][0]
    found = parsed(section, good, {**good, "start": "garbage"}, None, {"name": "x"}, good)
    assert sorted(row["index"] for row in found.quarantined) == [1, 2, 3]
    assert all(row["reason"] for row in found.quarantined)
    assert found.received == {EVENTS[section].metric: 5}


def test_symptoms_keep_their_texts_and_get_codes() -> None:
    row = one("symptoms", end=LATER, name="Fatiga", severity="Leve", source="Salud")
    assert (row["kind"], row["source"]) == ("Fatiga", "Salud")
    assert row["fields"] == {"name": "Fatiga", "name_code": "fatigue", "severity": "Leve", "severity_code": "mild"}
    assert row["end_time"] == datetime(2026, 2, 3, 8, 15, tzinfo=UTC)
    assert row["offset_minutes"] == 60


def test_a_text_that_is_in_no_table_has_no_code() -> None:
    row = one("symptoms", name="Wehwehchen", severity="so lala")
    assert row["fields"] == {"name": "Wehwehchen", "severity": "so lala"}


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("Menstrual Flow", "Light", "light"),
        ("Menstruation", "Stark", "heavy"),
        ("Ovulation Test Result", "Negative", "negative"),
        ("Cervical Mucus Quality", "Egg White", "egg_white"),
        ("Something", "Else", None),
    ],
)
def test_the_cycle_has_codes_by_what_it_is_about(name: str, value: str, code: str | None) -> None:
    row = one("cycleTracking", name=name, value=value, isCycleStart=True)
    assert row["kind"] == name
    assert row["fields"].get("value_code") == code
    assert row["fields"]["is_cycle_start"] is True


def test_the_valence_is_the_value_of_a_state_of_mind() -> None:
    row = one("stateOfMind", id="A", kind="daily_mood", valence=-0.5, labels=["sad"])
    assert (row["kind"], row["value"]) == ("A", -0.5)
    assert row["fields"]["labels"] == ["sad"]


@pytest.mark.parametrize(
    ("status", "taken", "value"),
    [
        ("Taken", True, 1),
        ("Eingenommen", True, 1),
        ("Skipped", False, None),
        ("Übersprungen", False, None),
        ("Not Logged", False, None),
        ("???", None, None),
        (None, None, None),
    ],
)
def test_only_what_was_taken_is_a_dose(status: str | None, taken: bool | None, value: float | None) -> None:
    row = one("medications", displayText="Example", status=status, dosage=1)
    assert row["fields"]["taken"] is taken
    assert row["value"] == value
    assert row["fields"]["dosage"] == 1
    assert bool(row["warnings"]) is (taken is None)


def test_doses_of_one_time_are_told_apart_by_their_schedule_or_status() -> None:
    planned = {"displayText": "Example", "start": AT, "scheduledDate": AT, "status": "Taken"}
    moved = planned | {"scheduledDate": "2026-02-03 06:15:00 +0000"}
    free = {"displayText": "Example", "start": AT, "status": "Skipped"}
    odd = planned | {"scheduledDate": "soon"}
    kinds = [row["kind"] for row in parsed("medications", planned, moved, free, odd).rows]
    assert kinds == ["Example 2026-02-03T06:15:00Z"] * 2 + ["Example Skipped", "Example soon"]


def test_a_dose_that_only_has_a_schedule_is_kept() -> None:
    found = parsed("medications", {"displayText": "Example", "scheduledDate": AT, "status": "Skipped"})
    assert found.rows[0]["time"] == datetime(2026, 2, 3, 6, 15, tzinfo=UTC)


def test_notifications_in_the_documented_and_in_the_real_form() -> None:
    documented, real = parsed("heartRateNotifications", *ALL_SHAPES["heartRateNotifications"]).rows
    assert (documented["kind"], documented["value"], documented["unit"]) == ("", 120, "count/min")
    assert documented["fields"]["heart_rate"][0]["hr"] == 131
    assert (real["kind"], real["value"], real["source"]) == ("low_heart_rate_notification", 45, "Watch A")
    assert real["fields"]["source"] == {"name": "Watch A"}
    assert real["fields"]["heart_rate_data"] == [{"value": 41, "date": 1770099300.0}]


def test_different_events_of_one_key_are_both_kept() -> None:
    found = parsed("symptoms", {"start": AT, "name": "A", "severity": "x"}, {"start": AT, "name": "A", "severity": "y"})
    assert [row["ordinal"] for row in found.rows] == [0, 1]


def test_an_end_that_is_odd_is_flagged() -> None:
    assert one("symptoms", end="2026-02-03 07:00:00 +0100")["warnings"][0]["warning"] == "end_before_start"
    assert one("symptoms", end="later")["warnings"][0]["warning"] == "unreadable_end"
    assert one("symptoms", start="2026-02-03 07:15:00")["warnings"][0]["warning"] == "assumed_utc"


@pytest.mark.parametrize("section", EVENTS)
@given(elements=garbage)
@settings(max_examples=30, deadline=None)
def test_garbage_never_raises_and_all_of_it_is_accounted_for(section: str, elements: Any) -> None:
    assert len(parsed(section, *elements).rows) == len(elements)
