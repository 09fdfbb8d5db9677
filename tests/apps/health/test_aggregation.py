"""How values of metrics that nobody has heard of become one."""

from __future__ import annotations

import pytest

from penstock.apps.health.aggregation import adds_up


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("wheelchair_laps", "count"),
        ("new_laps", "times"),
        ("new_energy", "kJ"),
        ("distance_kayaking", "mi"),
        ("rollerblading_distance", "km"),
        ("time_in_bright_light", "hr"),
        ("breathing_minutes", "min"),
        ("apple_play_time", "min"),
        ("dietary_selen", "mcg"),
        ("dietary_milk", "fl_oz_us"),
    ],
)
def test_amounts_are_added(name: str, unit: str) -> None:
    assert adds_up(name, unit)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("new_rate", "count/min"),
        ("tremor_rate", "count"),
        ("new_ratio", "%"),
        ("arm_span", "cm"),
        ("muscle_mass", "kg"),
        ("lung_volume", "L"),
        ("reaction_latency", "ms"),
        ("distance_score", None),
    ],
)
def test_what_is_no_amount_is_not_added(name: str, unit: str | None) -> None:
    assert not adds_up(name, unit)
