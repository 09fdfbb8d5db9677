"""A poorer export does not erase what a richer one said, in whichever order they are stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import select

from penstock.apps.health.schema import history, points, workouts
from penstock.apps.health.store.merging import merge_fields

from .conftest import Stored
from .factory import NOON, accepted, part, point, stable_id, workout

RICH = {"distance": {"unit": "m", "value": 5000.0}, "avg_heart_rate": {"unit": "count/min", "value": 150.0}}


def versions() -> list[dict[str, Any]]:
    rich = workout("W2", name="Outdoor Walk") | {"fields": json.dumps(RICH | {"duration": 1800})}
    poor = workout("W2", name="Other", duration=1801.0) | {
        "fields": '{"duration":1801}',
        "original": '{"name": "Other"}',
    }
    return [rich, poor | {"source": ""}]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_a_later_export_of_a_workout_leaves_out_stays(stored: Stored, order: tuple[int, int]) -> None:
    rows = versions()
    for number in order:
        [done] = stored.write(part(accepted(id=stable_id(number)), [rows[number]]))
        assert done.counts.received == 1
    found = stored.rows(select(workouts.c.name, workouts.c.value, workouts.c.source, workouts.c.fields))
    [(name, duration, source, fields)] = found
    assert (name, duration, source) == ("Outdoor Walk", 1801, "Watch")
    assert json.loads(fields) == RICH | {"duration": 1801}
    assert len(stored.rows(select(history))) == 1


def test_a_poorer_export_that_is_processed_again_changes_nothing(stored: Stored) -> None:
    rich, poor = versions()
    stored.write(part(accepted(id=stable_id(0)), [rich]))
    stored.write(part(accepted(id=stable_id(1)), [poor]))
    before = stored.rows(select(workouts.c.name, workouts.c.fields))
    [again] = stored.write(part(accepted(id=stable_id(1), attempt=2), [poor]))
    assert (again.counts.updated, again.counts.unchanged) == (0, 1)
    assert stored.rows(select(workouts.c.name, workouts.c.fields)) == before


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_a_later_export_of_a_point_leaves_out_stays(stored: Stored, order: tuple[int, int]) -> None:
    rows = [
        point(61.0, minimum=50.0, maximum=90.0, fields={"meal_time": "Before Meal"}),
        point(62.0) | {"original": '{"qty": 62}'},
    ]
    for number in order:
        stored.write(part(accepted(id=stable_id(number)), [rows[number]]))
    c = points.c
    [(value, minimum, maximum, fields)] = stored.rows(select(c.value, c.minimum, c.maximum, c.fields))
    assert (value, minimum, maximum, json.loads(fields)) == (62, 50, 90, {"meal_time": "Before Meal"})


def test_a_number_of_another_unit_does_not_stay_beside_others(stored: Stored) -> None:
    stored.write(part(accepted(), [point(61.0, minimum=50.0)]))
    stored.write(part(accepted(), [point(1.0) | {"unit": "Hz", "original": "{}"}]))
    assert stored.rows(select(points.c.value, points.c.minimum, points.c.unit)) == [(1, None, "Hz")]
    stored.write(part(accepted(), [point(None, time=NOON, fields={"note": "x"})]))
    assert stored.rows(select(points.c.value, points.c.unit)) == [(1, "Hz")]


def test_fields_are_merged_one_by_one() -> None:
    assert merge_fields(None, '{"a":1}') == '{"a":1}' == merge_fields('{"a":1}', None)
    assert merge_fields('{"b":{"x":1},"a":1}', '{"a":2}') == '{"a":2,"b":{"x":1}}'
    assert merge_fields('{"a":{"x":1}}', '{"a":{"y":2}}') == '{"a":{"y":2}}'


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_what_is_empty_replaces_nothing(stored: Stored, empty: Any) -> None:
    said = {"labels": ["calm"], "note": "x"}
    stored.write(part(accepted(id=stable_id(0)), [point(0.4, fields=said)]))
    poorer = point(0.4, fields={"labels": empty, "other": empty}) | {"original": '{"valence": 0.4}'}
    stored.write(part(accepted(id=stable_id(1)), [poorer]))
    [(fields,)] = stored.rows(select(points.c.fields))
    assert json.loads(fields) == said | {"other": empty}
    [again] = stored.write(part(accepted(id=stable_id(1), attempt=2), [poorer]))
    assert (again.counts.updated, again.counts.unchanged) == (0, 1)
