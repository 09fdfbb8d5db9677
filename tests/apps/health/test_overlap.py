"""Sums of overlapping points are those of the truth, whatever was sent in which groupings, order and repetition."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.apps.health.overlap import DAY, HOUR, UNKNOWN, Points, count_shares
from penstock.apps.health.priority import Priority

MINUTE = HOUR // 60
START = 20_000 * DAY
LATE = START + 400 * DAY
PERIODS = {"minutes": MINUTE, "hours": HOUR, "days": DAY}
Row = dict[str, Any]


def row(start: int, value: float, source: str = "Watch", period: int = 0, end: int | None = None, **more: Any) -> Row:
    end = end if end is not None else start + period
    return {"start": start, "end": end, "value": value, "period": period, "source": source} | more


def sums(rows: list[Row], *, priority: Priority | None = None, adds_up: bool = True) -> tuple[list[float], float]:
    """Return the share of each row, and what they come to."""
    sources = sorted({one["source"] for one in rows})
    columns = {
        name: np.array([one.get(name, default) for one in rows], np.float64 if name == "value" else np.int64)
        for name, default in (("start", 0), ("end", 0), ("value", 0), ("period", 0), ("offset", 0), ("received", LATE))
    }
    points = Points(**columns, source=np.array([sources.index(one["source"]) for one in rows], np.int64))
    shares = count_shares(points, sources, priority or Priority(), adds_up=adds_up)
    assert ((shares >= -1e-9) & (shares <= 1 + 1e-9)).all()
    return shares.tolist(), float((shares * columns["value"]).sum())


def test_a_bucket_with_more_sources_takes_the_place_of_one_with_fewer() -> None:
    few, more = row(START, 3, "Watch", DAY), row(START, 9, "Phone|Watch", DAY)
    assert sums([few, more]) == ([0, 1], 9)
    assert sums([more | {"received": 1}, few]) == ([1, 0], 9)


@pytest.mark.parametrize("reverse", [False, True])
def test_minutes_within_hours_within_days_count_once(reverse: bool) -> None:
    minutes = [row(START + 10 * HOUR + n * MINUTE, 10, "Watch", MINUTE) for n in range(10)]
    hours = [row(START + 10 * HOUR, 100, "Watch", HOUR), row(START + 12 * HOUR, 300, "Watch", HOUR)]
    day = row(START, 1000, "Watch", DAY)
    rows = [*minutes, *hours, day]
    shares, total = sums(rows[::-1] if reverse else rows)
    assert total == pytest.approx(1000)
    assert (shares[::-1] if reverse else shares)[-1] == pytest.approx(0.6)


def test_of_samples_of_several_sources_the_first_counts_and_another_for_the_time_that_remains() -> None:
    ten = 10 * MINUTE
    watch = [row(START, 500, "Watch", end=START + 5 * MINUTE), row(START + ten, 7, "Watch", end=START + ten)]
    phone = [row(START, 980, "iPhone", end=START + ten), row(START + ten, 8, "iPhone", end=START + ten)]
    shares, total = sums([*phone, *watch])
    assert shares == pytest.approx([0.5, 0, 1, 1])
    assert total == pytest.approx(500 + 490 + 7)
    assert sums([*phone, *watch], priority=Priority(["iPhone"]))[1] == pytest.approx(980 + 8)


def test_samples_of_one_source_are_added() -> None:
    glasses = [row(START, 250, "App"), row(START, 300, "App"), row(START + MINUTE, 200, "App")]
    assert sums(glasses)[1] == 750


def test_a_day_of_another_zone_is_the_same_day() -> None:
    berlin = row(START - 2 * HOUR, 5000, "Watch", DAY, offset=2 * HOUR, received=LATE)
    york = row(START + 4 * HOUR, 6000, "Watch", DAY, offset=-4 * HOUR, received=LATE + 1)
    assert sums([berlin, york]) == ([0, 1], 6000)
    assert sums([york, berlin]) == ([1, 0], 6000)


@pytest.mark.parametrize(("hours", "turned"), [(25, -HOUR), (23, HOUR)])
@pytest.mark.parametrize("following", [True, False])
def test_days_on_which_the_clock_changes_are_whole(hours: int, turned: int, following: bool) -> None:
    """In autumn the day has 25 hours, in spring 23: no hour is of two days."""
    begin, offset = START - 2 * HOUR, 2 * HOUR
    after = offset + turned
    parts = [row(begin + n * HOUR, 10, "Watch", HOUR, offset=offset if n < 3 else after) for n in range(hours + 24)]
    days = [row(begin, 10.0 * hours, "Watch", DAY, offset=offset)]
    if following:
        days.append(row(begin + hours * HOUR, 240, "Watch", DAY, offset=after))
    assert sums([*parts, *days])[1] == pytest.approx(10.0 * (hours + 24))


def test_a_bucket_says_nothing_about_the_time_after_it_was_received() -> None:
    noon = START + 12 * HOUR
    morning = row(START, 3000, "Watch", DAY, received=noon)
    afternoon = [row(noon + n * HOUR, 500, "Watch", HOUR) for n in range(4)]
    assert sums([morning, *afternoon])[1] == pytest.approx(5000)
    assert sums([morning, row(START, 5000, "Phone|Watch", DAY)])[1] == 5000


def test_a_mean_is_that_of_what_is_within_unless_that_is_little() -> None:
    day = row(START, 70, "Watch", DAY)
    burst = [row(START + 10 * HOUR + n * MINUTE, 150, "Watch", MINUTE) for n in range(10)]
    assert sums([day, *burst], adds_up=False)[0] == [1] + [0] * 10
    whole = [row(START + n * HOUR, 60, "Watch", MINUTE) for n in range(24)]
    assert sums([day, *whole], adds_up=False)[0] == [0] + [1] * 24


DEVICES = ("Health", "Watch", "iPhone", "Ring")
segment = st.tuples(
    st.integers(0, 3),
    st.integers(0, 3 * 1440 - 1),  # the minute of its beginning
    st.integers(1, 180),
    st.integers(50, 99),  # for each minute: devices that see the same differ, but not by a multiple
)
sending = st.tuples(
    st.sampled_from(["minutes", "hours", "days", "samples"]), st.integers(0, 4319), st.integers(1, 4320)
)


def merged(truth: np.ndarray[Any, Any], known: int) -> np.ndarray[Any, Any]:
    """Return what the phone says of each minute: the value of the first device of those it knows that has one."""
    said = np.zeros(truth.shape[1])
    for device in reversed(range(known)):
        said = np.where(truth[device] > 0, truth[device], said)
    return said


def buckets(truth: np.ndarray[Any, Any], order: list[int], known: int, period: int, first: int, last: int) -> list[Row]:
    """Return the buckets of the minutes from ``first`` to ``last``, of the first devices that are known."""
    devices = sorted(order[:known])
    there = truth[devices]
    said = merged(there, len(devices))
    size = period // MINUTE
    found = []
    for begin in range(first // size * size, last, size):
        within = slice(begin, begin + size)
        names = [DEVICES[device] for device, minutes in zip(devices, there[:, within], strict=True) if minutes.any()]
        if names:
            value = float(said[within].sum())
            found.append(row(START + begin * MINUTE, value, "|".join(sorted(names)), period))
    return found


def samples(segments: list[tuple[int, int, int, int]], first: int, last: int) -> list[Row]:
    return [
        row(START + begin * MINUTE, float(value * length), DEVICES[device], end=START + (begin + length) * MINUTE)
        for device, begin, length, value in segments
        if first <= begin < last
    ]


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    st.lists(segment, max_size=12),
    st.permutations(range(4)),
    st.lists(st.tuples(st.integers(1, 4), sending), max_size=8),
    st.lists(st.sampled_from(["minutes", "hours", "days", "samples"]), min_size=3, max_size=3),
    st.randoms(use_true_random=False),
)
def test_totals_by_day_are_those_of_the_truth(
    found: list[tuple[int, int, int, int]],
    order: list[int],
    sendings: list[tuple[int, tuple[str, int, int]]],
    complete: list[str],
    random: Any,
) -> None:
    """Devices that overlap, known one after the other, sent in any groupings; each day is sent whole in one of them."""
    truth = np.zeros((4, 3 * 1440))
    segments = []
    for device, begin, length, value in found:
        length = min(length, 1440 - begin % 1440)  # Samples over midnight are split by neither side alike.
        if not truth[device, begin : begin + length].any():
            truth[device, begin : begin + length] = value
            segments.append((device, begin, length, value))
    sent: list[Row] = []
    for known, (grouping, first, length) in sendings:
        last = min(first + length, 3 * 1440)
        if grouping == "samples":
            early = [one for one in segments if one[0] in order[:known]]
            sent += samples(early, first, last)
        else:
            sent += buckets(truth, order, known, PERIODS[grouping], first, last)
    for day, grouping in enumerate(complete):
        first, last = day * 1440, (day + 1) * 1440
        whole = samples(segments, first, last) if grouping == "samples" else None
        sent += whole if whole is not None else buckets(truth, order, 4, PERIODS[grouping], first, last)
    random.shuffle(sent)
    stored = {(one["source"], one["start"], one["end"]): one for one in sent}  # What comes again is the same point.
    totals: dict[int, float] = defaultdict(float)
    rows = list(stored.values())
    if rows:
        for share, one in zip(sums(rows)[0], rows, strict=True):
            totals[(one["start"] - START) // DAY] += share * one["value"]
    expected = merged(truth, 4).reshape(3, 1440).sum(axis=1)
    assert [totals[day] for day in range(3)] == pytest.approx(expected.tolist())


def test_offsets_that_are_not_known_are_utc() -> None:
    assert sums([row(START, 1, "A", DAY, offset=UNKNOWN), row(START, 2, "A|B", DAY)])[1] == 2
