"""Periods of points, told by their times, by their sources and by what devices measure."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.apps.health.export.slices import Slice

from .parsing import Parsed, listed

ALONE = ["2026-02-03 10:00:00 +0100"]
MINUTES = ["2026-02-03 10:01:00 +0100", "2026-02-03 10:05:00 +0100"]
SECONDS = ["2026-02-03 10:01:07 +0100", "2026-02-03 10:05:00 +0100"]
HOURS = ["2026-02-03 10:00:00 +0100", "2026-02-03 11:00:00 +0100"]
DAYS = ["2026-02-03 00:00:00 +0100"]


def periods(name: str, dates: list[str], source: str = "Watch", first: int = 0) -> set[Any]:
    points = [{"date": date, "qty": 1, "source": source} for date in dates]
    of: Slice = listed("metrics", points, name=name, units="count", first=first)
    return {row["period"] for row in Parsed(of).rows}


@pytest.mark.parametrize(
    ("dates", "measured", "entered"),
    [(ALONE, 3600, None), (MINUTES, 60, None), (SECONDS, None, None), (HOURS, 3600, 3600), (DAYS, 86_400, 86_400)],
)
def test_what_devices_measure_and_what_is_entered(dates: list[str], measured: Any, entered: Any) -> None:
    assert periods("step_count", dates) == {measured}
    assert periods("inhaler_usage", dates) == {entered}
    assert periods("inhaler_usage", dates, source="Watch|Phone") == {measured}


def test_the_last_of_a_long_list_is_no_bucket_by_itself() -> None:
    assert periods("step_count", ALONE, first=500) == {None} == periods("step_count", DAYS, first=500)


def test_a_point_that_says_its_end_is_a_sample() -> None:
    point = {"date": ALONE[0], "start": ALONE[0], "end": "2026-02-03 10:10:00 +0100", "qty": 1}
    [row] = Parsed(listed("metrics", [point], name="step_count", units="count")).rows
    assert row["period"] is None
