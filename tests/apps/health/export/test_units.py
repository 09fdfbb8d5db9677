from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.apps.health.export.units import SAME, conversion, is_unit, spelled


@pytest.mark.parametrize(
    ("value", "unit", "wanted", "expected"),
    [
        (88.1, "kJ", "kcal", 21.05640535),
        (1, "mi", "m", 1609.344),
        (7.2, "km", "m", 7200),
        (50, "yd", "m", 45.72),
        (171.3, "lb", "kg", 77.70037298),
        (98.6, "degF", "degC", 37.0),
        (36.4, "degC", "degC", 36.4),
        (310.15, "K", "degC", 37.0),
        (37, "degC", "degF", 98.6),
        (33, "in", "cm", 83.82),
        (5.9, "ft", "cm", 179.832),
        (4.8, "km/hr", "m/s", 1.3333333),
        (2.9, "mi/hr", "m/s", 1.296416),
        (0.9, "ft/s", "m/s", 0.27432),
        (5.8, "mmol/L", "mg/dL", 104.4904104),
        (12, "fl_oz_us", "mL", 354.88235475),
        (0.3, "S", "mcS", 300000),
        (0.65, "hr", "min", 39),
        (20, "s", "s", 20),
        (95, "s", "min", 1.58333333),
        (64, "bpm", "count/min", 64),
        (43.2, "mL/min·kg", "mL/(kg·min)", 43.2),
        (2.4, "µg", "mcg", 2.4),
        (16, "kPa", "mmHg", 120.00984981),
        *[(15, unit, "m/s", 4.166666667) for unit in ("kmph", "KMPH", "km/h", "km / hr", "kph", "Km/hour", "kmh")],
        (7.2, "miles/hour", "m/s", 3.218688),
    ],
)
def test_what_is_sent_is_converted(value: float, unit: str, wanted: str, expected: float) -> None:
    convert = conversion(unit, wanted)
    assert convert is not None
    assert convert(value) == pytest.approx(expected, rel=1e-7)


def test_a_converted_number_has_only_the_digits_that_count() -> None:
    pounds = conversion("lb", "kg")
    assert pounds is not None
    assert pounds(160) == 72.5747792
    assert pounds.of_many(np.array([160.0, np.nan, 0.0, 1e-30]))[[0, 2]].tolist() == [72.5747792, 0.0]


@given(st.lists(st.floats(-1e15, 1e15, allow_nan=False), min_size=1, max_size=9), st.sampled_from(["lb", "oz", "st"]))
def test_many_numbers_become_the_same_as_each(values: list[float], unit: str) -> None:
    convert = conversion(unit, "kg")
    assert convert is not None
    found = convert.of_many(np.array(values))
    assert found.tolist() == pytest.approx([convert(value) for value in values], rel=1e-14)
    assert found.tolist() == pytest.approx([value * convert.scale for value in values], rel=1e-14)


@pytest.mark.parametrize(("unit", "wanted"), [("widgets", "kg"), ("kg", "m"), ("IU", "mcg"), ("", "kg"), ("S", "s")])
def test_nothing_is_assumed_of_what_is_not_known(unit: str, wanted: str) -> None:
    assert conversion(unit, wanted) is None


def test_what_is_in_the_unit_already_stays_as_it_is() -> None:
    assert conversion("count/min", "bpm") == SAME
    assert SAME(0.1 + 0.2) == 0.1 + 0.2


def test_a_unit_is_known_however_it_is_spelled() -> None:
    assert is_unit("KJ")
    assert is_unit(" mL / (kg · min) ")
    assert spelled("mL/min⋅kg") == "mL/min·kg"
    assert not is_unit("furlong")


@pytest.mark.parametrize(
    ("unit", "wanted"),
    [
        *(("℃", "degC"), ("℉", "degC"), ("mmol<180.1558800000541>/L", "mg/dL"), ("mile/hr", "m/s"), ("stones", "kg")),
        *(("kilometers per hour", "m/s"), ("µg", "mcg"), ("μg", "mcg"), ("㎏", "kg"), ("㎞", "m"), ("cmH₂O", "mmHg")),
    ],
)
def test_other_ways_to_write_a_unit_are_known(unit: str, wanted: str) -> None:
    assert conversion(unit, wanted) is not None
