"""All that is made of raw bodies can be made again, and is the same."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from penstock.apps.health.schema import ingests, points
from penstock.apps.health.store.rebuild import forget

from .conftest import Stored
from .factory import MINUTE, NOON, accepted, part, place, point, refused, series, workout

_EMPTIED = {
    "health_points",
    "health_workouts",
    "health_series",
    "health_routes",
    "health_history",
    "health_quarters",
    "health_metrics",
    "health_parts",
    "health_quarantine",
}


def bodies(user: int = 1) -> list[Any]:
    first, second, third = (accepted(user, body=body) for body in ("a", "b", "a"))
    some = [point(float(number), NOON + number * MINUTE) for number in range(40)]
    everything = [workout(), series(), place(52.0, 13.0), refused("no date", 7)]
    return [
        part(first, some[:20], last=False),
        part(first, everything, number=1),
        part(second, [point(1000.0), *some[10:], workout(duration=60.0), workout(duration=61.0)]),
        part(third, some[:20]),
    ]


def test_dump_forget_process_again_dump_is_equal(stored: Stored) -> None:
    batches = bodies()
    for batch in batches:
        stored.write(batch)
    before = stored.dump()
    stored.database.call(forget)
    emptied = stored.dump()
    assert {name for name in before if before[name] and not emptied[name]} == _EMPTIED
    assert {row[0] for row in stored.rows(select(ingests.c.state))} == {"accepted"}
    for batch in batches:
        stored.write(batch)
    assert stored.dump() == before


def test_one_user_is_forgotten_and_the_others_are_not(stored: Stored) -> None:
    for user in (1, 2):
        for batch in bodies(user):
            stored.write(batch)
    stored.database.call(lambda connection: forget(connection, 1))
    assert {row[0] for row in stored.rows(select(points.c.user_id))} == {2}
    states = stored.rows(select(ingests.c.user_id, ingests.c.state).distinct())
    assert sorted(states) == [(1, "accepted"), (2, "processed")]


def test_an_ingest_that_was_processed_twice_can_be_made_again_from_its_first_acceptance(stored: Stored) -> None:
    of = accepted()
    stored.write(part(of, [refused()]))
    stored.write(part(accepted(id=of.id, attempt=2), [point()]))
    stored.database.call(forget)
    [done] = stored.write(part(of, [point()]))
    assert (done.attempt, done.counts.stored, done.state) == (1, 1, "processed")
