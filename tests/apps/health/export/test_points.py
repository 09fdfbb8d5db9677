from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.apps.health.export.points import HealthPoints, parse
from penstock.apps.health.export.records import SECTIONS, Records
from penstock.apps.health.export.slices import Part, Slice, pack
from penstock.component import Processor
from penstock.delivery import Batch
from penstock.testing.suites.processors import ProcessorSuite

from .exports import POINTS, accepted, divided, rows
from .parsing import Parsed, listed
from .test_metrics import DATE


class TestHealthPoints(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Processor.parse("health_points")

    def sample(self, start: int, rows: int) -> Batch:
        def slice(number: int) -> Slice:
            points = json.dumps([{"date": DATE, "qty": number}, None]).encode()
            return Slice(section="metrics", name="step_count", units="count", payload=points, first=number)

        slices = [slice(number) for number in range(start, start + rows)]
        return pack(Part(accepted=accepted(), number=0, last=False, slices=slices))


def test_it_is_found_by_its_type() -> None:
    assert isinstance(Processor.parse("health_points"), HealthPoints)


def test_the_error_of_a_whole_body_is_passed_on() -> None:
    [row] = parse(pack(Part(accepted=accepted(), number=0, last=True, error="at byte 5: ..."))).to_pylist()
    assert row["record"] == "part"
    assert json.loads(row["fields"])["error"] == "at byte 5: ..."


def steps(*points: Any) -> Slice:
    return listed("metrics", list(points), name="step_count", units="count")


@pytest.mark.parametrize("fault", ["raises", "loses", "invents"])
def test_a_defect_of_a_parser_costs_nothing_but_its_slice(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(slice: Slice, records: Records) -> None:
        records.received("symptoms", 1 if fault == "invents" else 2)
        records.add(record="point", type="symptoms", index=0, time=0, original="{}")
        if fault == "raises":
            raise RuntimeError("a defect")
        if fault == "invents":
            records.add(record="point", type="symptoms", index=0, time=0, original="{}")

    Parsed(listed("symptoms", []))  # so that its parser is there to be replaced
    monkeypatch.setitem(SECTIONS, "symptoms", broken)
    point = {"date": DATE, "qty": 1}
    part = Part(
        accepted=accepted(),
        number=0,
        last=True,
        slices=[steps(point), listed("symptoms", [{"a": 1}, {}]), steps(point)],
    )
    with caplog.at_level(logging.ERROR):
        *found, last = parse(pack(part)).to_pylist()
    assert "symptoms" in caplog.text
    assert json.loads(last["fields"])["received"] == {"step_count": 2, "symptoms": 2}
    assert [row["type"] for row in found if row["record"] == "point"] == ["step_count"] * 2
    bad = [row for row in found if row["record"] == "quarantined"]
    assert [(row["path"], row["payload"]) for row in bad] == [
        ("data.symptoms[0]", '{"a":1}'),
        ("data.symptoms[1]", "{}"),
    ]
    assert all(row["reason"].startswith("could not be read: ") for row in bad)


def test_l8_elements_of_a_list_that_nobody_knows_are_stored_under_its_name() -> None:
    point = {"date": DATE, "qty": 1, "id": "x"}
    found = Parsed(listed("somethingNew", [point, {"a": 1}, None], name="somethingNew"))
    [row] = found.of("something_new")
    assert (row["metric"], row["kind"], row["value"], row["time"]) == (
        *("something_new", "x", 1),
        datetime(2026, 2, 3, 6, 15, tzinfo=UTC),
    )
    assert sorted(one["index"] for one in found.quarantined) == [1, 2]


SECTION_NAMES = [
    *["metrics", "internal", "domain", "csv", "workouts", "workout_route", "workout_series", "ecg", "ecg_voltages"],
    *["symptoms", "cycleTracking", "stateOfMind", "medications", "heartRateNotifications", "unknown"],
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(SECTION_NAMES),
    st.lists(ANYTHING | POINTS, max_size=5),
    st.text(max_size=10),
    st.binary(max_size=50),
)
def test_garbage_in_any_section_is_accounted_for(section: str, elements: list[Any], name: str, text: bytes) -> None:
    payload = text if section == "csv" else json.dumps(elements).encode()
    slice = Slice(section=section, name=name, payload=payload, parent=b"{}", parent_index=0, count=len(elements))
    form = "domain:respiratory" if section == "domain" else "export"
    part = Part(accepted=accepted(form=form), number=0, last=True, slices=[slice])
    found = rows([part])
    if section not in ("internal", "domain", "csv"):
        assert len(found) == len(elements)


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=100))
def test_a_body_of_any_bytes_is_accounted_for(body: bytes) -> None:
    for form in ("export", "csv", "multipart", "domain:respiratory"):
        rows(divided(body, form=form))


@pytest.mark.parametrize(
    ("section", "name", "type"),
    [
        ("metrics", "steps", "step_count"),
        ("metrics", "New One", "new_one"),
        ("workouts", "workouts", "workouts"),
        ("workout_route", "route", "workout_route"),
        ("workout_series", "heartRateData", "workout_heart_rate"),
        ("ecg_voltages", "voltageMeasurements", "ecg_voltage"),
        ("stateOfMind", "stateOfMind", "state_of_mind"),
        ("audiograms", "audiograms", "audiograms"),
    ],
)
def test_what_cannot_be_looked_at_counts_as_what_it_would_have_been(section: str, name: str, type: str) -> None:
    found = Parsed(Slice(section=section, name=name, payload=b'{"a', count=1, first=3, path="p", reason="too large"))
    assert [(row["type"], row["index"], row["path"], row["payload"]) for row in found.quarantined] == [
        (type, 3, "p[3]", '{"a')
    ]


def test_of_a_large_element_the_beginning_is_shown_beside_the_reason() -> None:
    found = Parsed(steps({"date": "garbage", "note": "x" * 200_000}))
    assert len(found.quarantined[0]["payload"]) == 100_000


@pytest.mark.parametrize(("aggregation", "kept"), [("Hours", False), ("Minutes", False), ("", True), ("None", True)])
def test_l22_a_bucket_is_the_same_bucket_however_far_it_reaches(aggregation: str, kept: bool) -> None:
    point = {"date": DATE, "start": DATE, "end": "2026-02-03 07:20:00 +0100", "qty": 1}
    headers = {"automation-aggregation": aggregation}
    part = Part(accepted=accepted(headers=headers), number=0, last=True, slices=[steps(point)])
    [row] = rows([part])
    period = {"Hours": 3600, "Minutes": 60}.get(aggregation)
    assert row["period"] == period
    assert (row["end_time"] - row["time"]).total_seconds() == (period or 300)
    assert row["fields"] == (None if kept else '{"end":"2026-02-03T07:20:00+01:00"}')
