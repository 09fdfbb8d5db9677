from __future__ import annotations

import pytest

from penstock.apps.health.export.catalogue import METRICS, canonical, find
from penstock.apps.health.export.units import conversion, is_unit

from .parsing import ALL_SHAPES


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("weight_&_body_mass", "weight_body_mass"),
        ("six-minute_walking_test_distance", "six_minute_walking_test_distance"),
        ("stair_speed:_up", "stair_speed_up"),
        ("vo2max", "vo2_max"),
        ("walking_heart_rate", "walking_heart_rate_average"),
        ("number_of_time_fallen", "number_of_times_fallen"),
        ("monosaturated_fat", "monounsaturated_fat"),
        ("dietary_biotin", "dietary_biotin"),
        ("biotin", "dietary_biotin"),
        ("dietary_protein", "protein"),
        ("push_count", "wheelchair_push_count"),
        ("HKQuantityTypeIdentifierStepCount", "step_count"),
        ("HKQuantityTypeIdentifierHeartRateVariabilitySDNN", "heart_rate_variability"),
        ("HKQuantityTypeIdentifierVO2Max", "vo2_max"),
        ("HKQuantityTypeIdentifierDietaryFatTotal", "total_fat"),
        ("HKQuantityTypeIdentifierUVExposure", "uv_exposure"),
        ("HKCategoryTypeIdentifierSleepAnalysis", "sleep_analysis"),
        ("HeartRate", "heart_rate"),
        ("stateOfMind", "state_of_mind"),
    ],
)
def test_a_metric_is_known_however_it_is_spelled(name: str, expected: str) -> None:
    assert canonical(name) == expected


def test_l8_an_unknown_name_is_kept_as_it_is_sent() -> None:
    assert find("a_metric_apple_adds_next_year") is None
    assert canonical("a_metric_apple_adds_next_year") == "a_metric_apple_adds_next_year"
    assert canonical("Beat-to-Beat Series") == "beat-to-beat_series"
    assert canonical("Größe/ß; DROP TABLE") == "größe_ß_drop_table"
    assert canonical("\0 \n") == "unnamed"
    assert len(canonical("x" * 10_000)) == 120


def test_l8_all_names_the_app_is_known_to_send_are_in_the_catalogue() -> None:
    unknown = [metric["name"] for metric in ALL_SHAPES["metrics"] if find(metric["name"]) is None]
    assert unknown == ["a_metric_apple_adds_next_year"]


def test_all_units_the_app_is_known_to_send_can_be_converted() -> None:
    for metric in ALL_SHAPES["metrics"]:
        known = find(metric["name"])
        assert known is None or conversion(metric["units"], known.unit) is not None, metric["name"]


def test_the_catalogue_is_sound() -> None:
    spellings = [spelling for metric in METRICS.values() for spelling in (metric.name, *metric.aliases)]
    assert len(spellings) == len(set(spellings))
    for metric in METRICS.values():
        assert canonical(metric.name) == metric.name
        assert metric.label
        assert not metric.unit or is_unit(metric.unit)
        assert metric.low is None or metric.high is None or metric.low < metric.high
        assert metric.aggregation in ("sum", "mean", "last", "event")


def test_l11_low_readings_of_the_heart_are_plausible() -> None:
    assert METRICS["heart_rate"].low == 15
