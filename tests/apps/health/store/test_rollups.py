"""Sums by hour, day and week are those of the points, in local time, and quick."""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, text

from penstock.apps.health.schema import quarters
from penstock.apps.health.store import rollups
from penstock.apps.health.store.calendar import TooManyBuckets
from penstock.errors import PermanentError

from .conftest import Stored
from .factory import MINUTE, NOON, accepted, many, part, place, point, series, workout


def aggregate(stored: Stored, metric: str = "heart_rate", by: Any = "day", **more: Any) -> list[rollups.Bucket]:
    return stored.database.call(lambda connection: rollups.aggregate(connection, 1, metric, by, **more))


def plainly(rows: list[dict[str, Any]], zone: str, by: str) -> dict[datetime, list[float]]:
    """Sum up in the plainest way: by the beginning of the local day or hour of each point."""
    found: dict[datetime, list[float]] = defaultdict(list)
    for row in rows:
        local = row["time"].astimezone(ZoneInfo(zone))
        begin = (
            local.replace(minute=0, second=0, microsecond=0)
            if by == "hour"
            else datetime.combine(local.date(), datetime.min.time(), ZoneInfo(zone))
        )
        found[begin.astimezone(UTC)].append(row["value"])
    return found


@pytest.mark.parametrize("by", ["hour", "day"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"])
def test_buckets_are_local_over_changes_of_the_clock(stored: Stored, zone: str, by: str) -> None:
    begin = datetime(2026, 3, 27, 22, 7, tzinfo=UTC)
    rows = [point(float(number), begin + number * 13 * MINUTE) for number in range(500)]
    stored.write(part(accepted(), rows))
    found = aggregate(stored, by=by, timezone=zone)
    expected = plainly(rows, zone, by)
    assert [bucket.time for bucket in found] == sorted(expected)
    for bucket in found:
        values = expected[bucket.time.astimezone(UTC)]
        assert (bucket.count, bucket.sum) == (len(values), sum(values))
        assert (bucket.minimum, bucket.maximum) == (min(values), max(values))
        assert bucket.mean == pytest.approx(sum(values) / len(values))
        assert bucket.time.utcoffset() == bucket.time.astimezone(ZoneInfo(zone)).utcoffset()


def test_the_days_on_which_the_clock_changes_have_23_and_25_hours(stored: Stored) -> None:
    for day in (datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)):
        stored.write(*many(accepted(), 3 * 24 * 60, start=day))
    found = {bucket.time.date(): bucket for bucket in aggregate(stored, timezone="Europe/Berlin")}
    assert found[date(2026, 3, 29)].count == 23 * 60
    assert found[date(2026, 10, 25)].count == 25 * 60
    hours = aggregate(
        stored,
        by="hour",
        timezone="Europe/Berlin",
        start=datetime(2026, 10, 24, 22, tzinfo=UTC),
        end=datetime(2026, 10, 25, 23, tzinfo=UTC),
    )
    assert [bucket.count for bucket in hours] == [60] * 25
    assert [bucket.time.hour for bucket in hours][:5] == [0, 1, 2, 2, 3]


def test_weeks_begin_on_monday(stored: Stored) -> None:
    stored.write(*many(accepted(), 15, start=NOON, step=timedelta(days=1)))
    found = aggregate(stored, by="week", timezone="America/New_York")
    assert [(bucket.time.isoformat(), bucket.count) for bucket in found] == [
        ("2026-02-02T00:00:00-05:00", 6),
        ("2026-02-09T00:00:00-05:00", 7),
        ("2026-02-16T00:00:00-05:00", 2),
    ]


def test_a_range_counts_from_its_start_on_and_before_its_end(stored: Stored) -> None:
    stored.write(*many(accepted(), 600, start=NOON))
    start, end = NOON + timedelta(minutes=7), NOON + timedelta(minutes=100, seconds=1)
    found = aggregate(stored, by="hour", start=start, end=end)
    assert [(bucket.time, bucket.count) for bucket in found] == [(NOON, 53), (NOON + timedelta(hours=1), 41)]
    within = aggregate(stored, by="hour", start=NOON + MINUTE, end=NOON + 3 * MINUTE)
    assert [(bucket.count, bucket.sum) for bucket in within] == [(2, 3.0)]
    assert aggregate(stored, start=NOON - timedelta(days=9), end=NOON) == []
    assert aggregate(stored, start=NOON + timedelta(days=9)) == []


def test_times_before_there_were_zones_are_summed_up_too(stored: Stored) -> None:
    """Local mean time was 53 minutes and 28 seconds ahead."""
    stored.write(*many(accepted(), 2880, start=datetime(1890, 1, 1, tzinfo=UTC)))
    found = aggregate(stored, timezone="Europe/Berlin")
    assert [bucket.count for bucket in found] == [1387, 1440, 53]
    assert found[1].time.utcoffset() == timedelta(minutes=53, seconds=28)


def test_by_source_by_field_and_by_kind(stored: Stored) -> None:
    rows = [
        point(1.0, source="Watch", fields={"systolic": 120, "pulse": {"value": 60.5, "unit": "x"}}),
        point(3.0, source="Phone", fields={"systolic": 140, "note": "x"}),
        point(None, source="Phone", kind="k", minimum=0.5, maximum=9.0),
    ]
    stored.write(part(accepted(), rows))
    [both] = aggregate(stored)
    assert (both.count, both.sum, both.mean, both.minimum, both.maximum) == (3, 4.0, 2.0, 0.5, 9.0)
    [phone] = aggregate(stored, source="Phone")
    assert (phone.count, phone.sum) == (2, 3.0)
    [systolic] = aggregate(stored, field="systolic")
    assert (systolic.count, systolic.mean, systolic.maximum) == (2, 130.0, 140.0)
    [pulse] = aggregate(stored, field="pulse")
    assert (pulse.count, pulse.sum) == (1, 60.5)
    assert aggregate(stored, field="note") == aggregate(stored, field='x"); --') == aggregate(stored, source="x") == []
    [kind] = aggregate(stored, kind="k")
    assert (kind.count, kind.sum, kind.mean, kind.maximum) == (1, None, None, 9.0)


def test_series_workouts_and_routes_can_be_counted_too(stored: Stored) -> None:
    stored.write(part(accepted(), [workout(), series(100.0), series(120.0, NOON + MINUTE), place(1.0, 2.0)]))
    assert [(one.count, one.mean) for one in aggregate(stored, "workout_heart_rate")] == [(2, 110.0)]
    assert [(one.count, one.sum) for one in aggregate(stored, "workouts")] == [(1, 1800.0)]
    assert [(one.count, one.sum) for one in aggregate(stored, "workout_route")] == [(1, None)]
    assert aggregate(stored, "unknown") == []


def test_a_replaced_value_is_summed_up_anew_and_others_are_not_touched(stored: Stored) -> None:
    stored.write(part(accepted(), [point(1.0), point(2.0, NOON + MINUTE), point(5.0, NOON + 15 * MINUTE)]))
    stored.write(part(accepted(), [point(10.0), point(2.0, NOON + MINUTE)]))
    rows = stored.rows(select(quarters.c.time, quarters.c.count, quarters.c.sum).order_by(quarters.c.time))
    assert rows == [(NOON, 2, 12.0), (NOON + 15 * MINUTE, 1, 5.0)]


def test_what_there_is_is_known_without_reading_points(stored: Stored) -> None:
    stored.write(part(accepted(), [point(), point(source="Phone", time=NOON - MINUTE), workout(), place(1.0, 2.0)]))
    stored.write(part(accepted(), [point(), point(time=NOON + MINUTE)]))
    found = stored.database.call(lambda connection: rollups.overview(connection, 1))
    assert [(row["metric"], row["record"], int(row["count"]), row["first"], row["last"]) for row in found] == [
        ("heart_rate", "point", 3, NOON - MINUTE, NOON + MINUTE),
        ("workout_route", "route", 1, NOON, NOON),
        ("workouts", "workout", 1, NOON, NOON),
    ]
    assert found[0]["unit"] == "count/min"
    assert stored.database.call(lambda connection: rollups.overview(connection, 2)) == []


def test_what_cannot_be_answered_is_said(stored: Stored) -> None:
    stored.write(part(accepted(), [point(time=datetime(1950, 1, 1, tzinfo=UTC)), point()]))
    with pytest.raises(TooManyBuckets, match="narrow the range"):
        aggregate(stored, by="hour")
    for name in ("Europe/Nowhere", "../../etc/passwd", "\0", ""):
        with pytest.raises(PermanentError, match="time zone"):
            aggregate(stored, timezone=name)


@pytest.mark.slow
def test_a_year_of_minutes_by_day_is_read_at_once(stored: Stored) -> None:
    minutes = 365 * 24 * 60
    batches = many(accepted(), minutes, start=datetime(2025, 1, 1, tzinfo=UTC))
    for index in range(0, len(batches), 8):
        stored.write(*batches[index : index + 8])
    took = []
    for _ in range(5):
        begun = time.process_time()
        found = aggregate(stored, timezone="Europe/Berlin")
        took.append(time.process_time() - begun)
    assert sum(bucket.count for bucket in found) == minutes
    assert len(found) == 366
    assert min(took) < 0.25  # It is under 50 ms where nothing else runs.


def test_reading_a_metric_by_time_uses_an_index(stored: Stored) -> None:
    stored.write(*many(accepted(), 20_000), *many(accepted(), 20_000, metric="step_count"))
    reading = (
        "SELECT * FROM health_points WHERE user_id = 1 AND metric = 'heart_rate' "
        "AND time >= '2026-02-05 00:00:00.000000Z' AND time < '2026-02-06 00:00:00.000000Z' ORDER BY time LIMIT 100"
    )
    explain = "EXPLAIN " if stored.database.is_postgres else "EXPLAIN QUERY PLAN "
    plan = "\n".join(str(row[-1]) for row in stored.rows(text(explain + reading)))
    assert "Seq Scan" not in plan
    assert "SCAN health_points" not in plan
    assert ("Index" if stored.database.is_postgres else "SEARCH health_points USING PRIMARY KEY") in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/St_Johns"])
@pytest.mark.parametrize(("by", "first"), [("month", {"day": 1}), ("year", {"day": 1, "month": 1})])
def test_months_and_years_are_those_of_the_local_calendar(stored: Stored, zone: str, by: str, first: Any) -> None:
    rows = [
        point(float(number), datetime(2024, 1, 31, 23, tzinfo=UTC) + number * timedelta(days=9)) for number in range(90)
    ]
    stored.write(part(accepted(), rows))
    expected: dict[datetime, list[float]] = defaultdict(list)
    for row in rows:
        midnight = row["time"].astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, **first)
        expected[midnight.astimezone(UTC)].append(row["value"])
    found = aggregate(stored, by=by, timezone=zone)
    assert [(bucket.time, bucket.count, bucket.sum) for bucket in found] == [
        (begin, len(values), sum(values)) for begin, values in sorted(expected.items())
    ]
