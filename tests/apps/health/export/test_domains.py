"""The bodies of the domains, and the table of them."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.apps.health.export import catalogue
from penstock.apps.health.export.domains import DOMAINS, form_of
from penstock.apps.health.export.forms import FORMS

from .parsing import Parsed, listed

AT = "2026-02-03T07:15:00Z"
INGESTED = [name for name, domain in DOMAINS.items() if domain.ingested]
EXPECTED = (
    *("reproductive-health", "environmental", "audio-exposure", "safety-events", "temperature", "hygiene"),
    *("body-measurements", "respiratory", "mindfulness", "mental-health", "nutrition", "symptoms", "blood-glucose"),
    "metabolic",
)


def parsed(domain: str, key: str, *records: Any) -> Parsed:
    return Parsed(listed("domain", list(records), name=key), form=f"domain:{domain}")


def test_there_is_a_domain_for_each_body() -> None:
    assert sorted(INGESTED) == sorted(EXPECTED)


@pytest.mark.parametrize(
    ("domain", "key", "column"),
    [
        (name, key, column)
        for name in INGESTED
        for key, form in DOMAINS[name].lists.items()
        for column in FORMS[form].measured
    ],
)
def test_l6_every_column_of_every_body_is_read_and_belongs_to_its_domain(domain: str, key: str, column: str) -> None:
    element = {"recorded_at": AT, column: 2}
    metric = FORMS[DOMAINS[domain].lists[key]].measured[column][0]
    for named in (key, "data", ""):
        found = parsed(domain, named, element)
        assert [row["original"] for row in found.of(metric)] == [element]
        assert not found.quarantined
    if domain != "blood-glucose":
        assert metric in DOMAINS[domain].metrics


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_names_metrics_by_their_canonical_names(domain: str) -> None:
    assert [catalogue.canonical(metric) for metric in DOMAINS[domain].metrics] == list(DOMAINS[domain].metrics)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_names_metrics_by_their_canonical_names(name: str) -> None:
    for metric, _ in FORMS[name].measured.values():
        assert catalogue.canonical(metric) == metric
    if FORMS[name].event:
        assert catalogue.canonical(FORMS[name].event) == FORMS[name].event


def test_columns_of_a_domain_for_those_who_want_wide_records() -> None:
    assert DOMAINS["hydration"].columns == {
        "dietary_water": ("dietary_water", "L"),
        "dietary_caffeine": ("dietary_caffeine", "mg"),
    }
    assert DOMAINS["mindfulness"].columns == {"session_duration_minutes": ("mindful_minutes", "min")}
    assert DOMAINS["blood-pressure"].columns == {}


@pytest.mark.parametrize(
    ("record", "form"),
    [
        ({"menstrual_flow": "light", "cycle_day": 2}, "Menstrual"),
        ({"lh_level": 2}, "Fertility"),
        ({"basal_body_temperature": 36.5}, "Fertility"),
        ({}, "Menstrual"),
    ],
)
def test_in_a_bare_list_the_columns_say_the_form(record: dict[str, Any], form: str) -> None:
    assert form_of("reproductive-health", "data", record) == form


def test_both_lists_of_a_body_are_read() -> None:
    found = Parsed(
        listed("domain", [{"recorded_at": AT, "menstrual_flow": "light"}], name="menstrual_data"),
        listed("domain", [{"recorded_at": AT, "ovulation_test_result": "positive"}], name="fertility_data"),
        form="domain:reproductive-health",
    )
    assert [(row["metric"], row["kind"]) for row in found.rows] == [
        ("cycle_tracking", "menstrual_flow"),
        ("cycle_tracking", "fertility"),
    ]
    assert found.rows[0]["fields"] == {"value": "light", "value_code": "light"}


def test_a_domain_that_no_one_knows_is_stored_under_its_name() -> None:
    found = parsed("auras", "data", {"recorded_at": AT, "value": 3}, None)
    assert [(row["type"], row["value"]) for row in found.rows] == [("auras", 3), ("auras", None)]
    assert len(found.quarantined) == 1
