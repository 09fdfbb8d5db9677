"""One workout stays one, with an id or without, in whichever version of the export it comes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from penstock.apps.health.acceptance import Accepted
from penstock.apps.health.export.points import parse
from penstock.apps.health.export.slices import Part, pack
from penstock.apps.health.schema import metrics, routes, series, workouts
from penstock.identifiers import new_id

from ..export.parsing import cut
from .conftest import Stored

ID = "0EEA1E9E-C117-4BF7-A170-5C0B942CB69A"
RUN = {
    "name": "Outdoor Run",
    "start": "2026-08-20 07:00:00 +0200",
    "end": "2026-08-20 07:10:00 +0200",
    "distance": {"qty": 1.2, "units": "mi"},
}
BEATS = {"heartRateData": [{"date": "2026-08-20 07:05:00 +0200", "qty": 150, "units": "bpm"}]}
ROUTE = {"route": [{"lat": 52.5, "lon": 13.4, "altitude": 34, "timestamp": "2026-08-20 07:05:00 +0200"}]}


def send(stored: Stored, workout: dict[str, Any], *, parts: bool = False) -> None:
    """Store a workout, and its lists in the same part or in parts of their own."""
    id, slices = new_id(), cut([workout])
    accepted = Accepted(id=id, user=1, received_at=datetime.now(UTC), raw=id, bytes=1, sha256=id)
    groups = [[one] for one in slices] if parts else [slices]
    for number, group in enumerate(groups):
        last = number == len(groups) - 1
        stored.write(parse(pack(Part(accepted=accepted, number=number, last=last, slices=group))))


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("id_first", [False, True])
def test_a_workout_with_and_without_its_id_is_one(stored: Stored, id_first: bool, parts: bool) -> None:
    sent = [{"id": ID, **RUN, **BEATS}, {**RUN, **ROUTE, "name": "Other"}]
    for workout in sent if id_first else sent[::-1]:
        send(stored, workout, parts=parts)
    [(id, name, fields)] = stored.rows(select(workouts.c.id, workouts.c.name, workouts.c.fields))
    assert (id, name) == (ID, "Outdoor Run")
    assert json.loads(fields)["distance"]["value"] == pytest.approx(1931.2, abs=0.1)
    assert stored.rows(select(series.c.parent_id)) == stored.rows(select(routes.c.parent_id)) == [(ID,)]
    count = select(metrics.c.count).where(metrics.c.metric == "workouts")
    assert stored.rows(count) == [(1,)]
    for workout in sent:
        send(stored, workout, parts=parts)
    assert len(stored.rows(select(workouts))) == 1


def test_workouts_of_one_time_that_are_told_apart_stay_apart(stored: Stored) -> None:
    send(stored, {"id": ID, **RUN})
    send(stored, {"id": "another", **RUN})
    send(stored, {**RUN, "name": "Cycling"})
    send(stored, {**RUN, "end": "2026-08-20 07:11:00 +0200"})
    assert len(stored.rows(select(workouts))) == 4
