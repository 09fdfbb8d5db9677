"""A year that is sent again and again, in random groupings, zones and order, has the totals of the truth."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from penstock.apps.health import nights
from penstock.apps.health.priority import Priority
from penstock.apps.health.reading import overview, summaries
from penstock.apps.health.reading.domains import Asked
from penstock.apps.health.schema import points
from penstock.apps.health.store import rollups
from penstock.apps.health.store.recounting import recount_user
from penstock.platform.web.paging import Window

from .conftest import Stored
from .year import HOME, TRIPS, Year, part_of

_users = count(1)
_DAY = timedelta(days=1)


class Told:
    """What the ways of reading tell of a person."""

    def __init__(self, stored: Stored, user: int) -> None:
        self._stored, self._user = stored, user

    def buckets(self, metric: str, by: Any = "day") -> list[rollups.Bucket]:
        return self._stored.database.call(lambda c: rollups.aggregate(c, self._user, metric, by, HOME.key))

    def totals(self, metric: str) -> dict[str, float]:
        return {str(day.time.date()): day.sum for day in self.buckets(metric) if day.sum}

    def summed(self, metric: str, first: date, last: date) -> float:
        begin, end = (datetime(day.year, day.month, day.day, tzinfo=HOME) for day in (first, last + _DAY))
        asked = Asked(self._user, "activity", Window(begin, end))
        found = self._stored.database.call(lambda c: summaries.summary(c, asked, [metric]))
        return float(found.get(metric, {}).get("sum") or 0)

    def of_points(self, metric: str) -> float:
        counted = func.sum(points.c.value * func.coalesce(points.c.counted, 1))
        return float(
            self._stored.rows(select(counted).where(points.c.user_id == self._user, points.c.metric == metric))[0][0]
            or 0
        )

    def nights(self, first: date, last: date) -> dict[str, float]:
        found = self._stored.database.call(lambda c: nights.nights(c, self._user, first, last + _DAY, HOME, Priority()))
        return {str(one["night"]): one["totals"]["asleep"] for one in found}

    def latest(self) -> dict[str, Any]:
        found = self._stored.database.call(lambda c: overview.metrics(c, self._user))
        return {one["name"]: one["latest"]["value"] for one in found}


def hold_to_truth(told: Told, year: Year) -> None:
    """Check all ways of reading."""
    steps, sleep, heart = year.true_steps(), year.true_sleep(), year.true_heart()
    assert told.totals("step_count") == pytest.approx(steps)
    whole = pytest.approx(sum(steps.values()))
    assert told.summed("step_count", year.first, year.last) == whole
    assert told.of_points("step_count") == whole
    for by in ("hour", "week"):
        assert sum(one.sum or 0.0 for one in told.buckets("step_count", by)) == whole
    assert told.totals("sleep_analysis") == pytest.approx(sleep)
    assert told.nights(year.first, year.last) == pytest.approx(sleep)
    assert told.of_points("sleep_analysis") == pytest.approx(sum(sleep.values()))
    beats = {str(one.time.date()): (one.mean, one.minimum, one.maximum) for one in told.buckets("heart_rate")}
    assert beats == {day: pytest.approx(expected) for day, expected in heart.items()}
    latest = told.latest()
    assert latest["sleep_analysis"] == pytest.approx(sleep[max(sleep)])
    if steps:
        assert latest["step_count"] == pytest.approx(steps[max(steps)])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_year_sent_again_and_again_has_the_totals_of_the_truth(stored: Stored) -> None:
    year = Year(date(2025, 1, 1), date(2025, 12, 31), random.Random(1))
    sent = [part_of(one) for one in year.exports()]
    for begin in range(0, len(sent), 20):
        stored.write(*sent[begin : begin + 20])
    hold_to_truth(Told(stored, 1), year)
    stored.database.call(lambda connection: recount_user(connection, 1), changes=True)
    hold_to_truth(Told(stored, 1), year)


_EDGES = [edge + n * _DAY for trip in TRIPS for edge in (trip.first, trip.last) for n in range(-4, 2)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([*_EDGES, date(2025, 3, 28), date(2025, 7, 1)]),
    st.integers(2, 6),
    st.randoms(use_true_random=False),
)
def test_some_days_sent_in_any_order_have_the_totals_of_the_truth(
    stored: Stored, first: date, length: int, chance: random.Random
) -> None:
    """The same exports in another order come to the same."""
    year = Year(first, first + length * _DAY, chance)
    exports = year.exports()
    for _ in range(2):
        user = next(_users)
        stored.write(*(part_of(one, user) for one in exports))
        hold_to_truth(Told(stored, user), year)
        chance.shuffle(exports)
