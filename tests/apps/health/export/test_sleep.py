from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from penstock.apps.health import nights

from .test_metrics import parsed, row

START, END = "2026-02-02 23:01:00 +0100", "2026-02-02 23:40:00 +0100"
SEGMENT = {"startDate": START, "endDate": END, "qty": 0.65, "value": "Core", "source": "Watch A"}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *[("Awake", "awake"), ("Asleep", "asleep"), ("In Bed", "in_bed"), ("InBed", "in_bed"), ("Core", "core")],
        *[("REM", "rem"), ("Deep", "deep"), ("Unspecified", "unspecified"), ("AsleepDeep", "deep"), (3, "core")],
        *[("HKCategoryValueSleepAnalysisAsleepREM", "rem"), ("AsleepUnspecified", "unspecified")],
        *[("Wach", "awake"), ("Tief", "deep"), ("Kern", "core"), ("Im Bett", "in_bed"), ("Schlafend", "asleep")],
        *[("SOMMEIL PROFOND", "deep"), ("en la cama", "in_bed"), ("覚醒", "awake"), ("快速动眼睡眠", "rem")],
    ],
)
def test_a_segment_is_a_point_of_its_stage(value: Any, kind: str) -> None:
    found = row("sleep_analysis", "hr", SEGMENT | {"value": value})
    assert (found["kind"], found["value"], found["unit"]) == (kind, 39, "min")
    assert found["time"] == datetime(2026, 2, 2, 22, 1, tzinfo=UTC)
    assert found["end_time"] == datetime(2026, 2, 2, 22, 40, tzinfo=UTC)
    assert (found["offset_minutes"], found["original_unit"], found["source"]) == (60, "hr", "Watch A")
    assert (found["fields"], found["warnings"]) == (None, None)


@pytest.mark.parametrize(
    ("value", "kind"), [("Träumend", "träumend"), ("???", "unknown"), ("", "unknown"), (99, "99"), ({"a": 1}, "a_1")]
)
def test_a_stage_that_is_not_known_is_flagged_and_is_no_sleep(value: Any, kind: str) -> None:
    found = row("sleep_analysis", "hr", SEGMENT | {"value": value})
    assert found["kind"] == kind
    assert kind not in nights.ASLEEP
    assert found["fields"] == {"value": value}
    assert [each["warning"] for each in found["warnings"]] == ["unknown_text"]


def test_the_length_of_a_segment_is_taken_from_its_times_if_need_be() -> None:
    assert row("sleep_analysis", "hr", SEGMENT | {"qty": None, "date": None})["value"] == 39
    assert row("sleep_analysis", "min", SEGMENT | {"qty": 39})["value"] == 39
    found = row("sleep_analysis", "moons", SEGMENT | {"qty": 2})
    assert (found["value"], found["unit"]) == (2, "moons")
    assert [each["warning"] for each in found["warnings"]] == ["unknown_unit"]


def test_a_night_is_a_point_with_its_stages() -> None:
    night = {
        **{"date": "2026-02-03", "totalSleep": 7.1, "asleep": 0, "awake": 0.2, "core": 4.0, "deep": 1.1, "rem": 2.0},
        **{"inBed": 7.6, "sleepStart": START, "sleepEnd": "2026-02-03 06:25:00 +0100", "source": "Watch A|Phone A"},
        **{"inBedStart": "2026-02-02 22:50:00 +0100", "inBedEnd": "2026-02-03 06:30:00 +0100"},
    }
    found = row("sleep_analysis", "hr", night)
    assert (found["kind"], found["value"], found["unit"], found["warnings"]) == ("aggregated", 426, "min", None)
    assert found["time"] == datetime(2026, 2, 2, 22, 1, tzinfo=UTC)
    assert found["end_time"] == datetime(2026, 2, 3, 5, 25, tzinfo=UTC)
    assert found["fields"] == {
        **{"date": "2026-02-03", "total_sleep": 426, "asleep": 0, "awake": 12, "core": 240, "deep": 66, "rem": 120},
        **{"in_bed": 456, "in_bed_start": "2026-02-02T22:50:00+01:00", "in_bed_end": "2026-02-03T06:30:00+01:00"},
    }


def test_a_night_of_older_apps_has_no_stages() -> None:
    night = {
        **{"asleep": 6.1, "sleepStart": "2021-12-18 02:21:06 +0800", "sleepEnd": "2021-12-18 08:57:06 +0800"},
        **{"sleepSource": "Watch B", "inBed": 6.8, "inBedSource": "Phone B"},
    }
    found = row("sleep_analysis", "hr", night)
    assert (found["kind"], found["source"]) == ("aggregated", "Watch B")
    assert found["value"] == pytest.approx(366)
    assert found["fields"]["in_bed_source"] == "Phone B"


def test_a_night_whose_total_is_zero_is_the_sum_of_its_stages() -> None:
    night = {"date": "2026-02-03", "totalSleep": 0, "core": 4, "deep": 1, "rem": 2, "sleepStart": START}
    assert row("sleep_analysis", "hr", night)["value"] == 420


def test_a_night_may_have_only_a_date() -> None:
    found = row("sleep_analysis", "hr", {"date": "2026-02-03", "totalSleep": 7})
    assert found["time"] == datetime(2026, 2, 3, tzinfo=UTC)
    assert [each["warning"] for each in found["warnings"]] == ["assumed_utc"]


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        ({"value": "Core", "qty": 1}, "expected a time under startDate"),
        (SEGMENT | {"value": None}, "no stage"),
        ({"startDate": START, "value": "Core"}, "no length"),
        (SEGMENT | {"qty": "long"}, "qty: expected a number"),
        (SEGMENT | {"startDate": "late"}, "startDate: expected a date"),
        ({"totalSleep": 7}, "expected a time under sleepStart"),
        ({"date": "2026-02-03", "deep": "much"}, "deep: expected a number"),
        ({}, "expected a time under startDate"),
    ],
)
def test_what_is_no_sleep_is_quarantined_alone(point: Any, reason: str) -> None:
    found = parsed("sleep_analysis", "hr", SEGMENT, point, SEGMENT | {"value": "Deep"})
    assert [one["reason"][: len(reason)] for one in found.quarantined] == [reason]
    assert [one["kind"] for one in found.of("sleep_analysis")] == ["core", "deep"]


def test_l19_implausible_sleep_is_kept_and_flagged() -> None:
    found = row("sleep_analysis", "hr", {"date": "2026-02-03 00:00:00 +0000", "totalSleep": 30})
    assert [each["warning"] for each in found["warnings"]] == ["suspicious_value"]
    found = row("sleep_analysis", "hr", SEGMENT | {"startDate": END, "endDate": START})
    assert [each["warning"] for each in found["warnings"]] == ["end_before_start"]
