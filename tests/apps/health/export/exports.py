"""Exports of all shapes, made by hypothesis, and their division into parts."""

from __future__ import annotations

import io
import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from penstock.apps.health.acceptance import Accepted
from penstock.apps.health.export.division import divide
from penstock.apps.health.export.points import parse
from penstock.apps.health.export.slices import Part, pack

DATES = ["2026-02-03 07:15:00 +0100", "2026-02-03 9:05:00\u202fPM +0100", "2026-02-03", "garbage", None, 1770099300.5]
GARBAGE = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
NUMBERS = (
    st.integers(-5, 300) | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["12", "x", None, {}])
)
POINTS = st.fixed_dictionaries(
    {"date": st.sampled_from(DATES)},
    optional={
        "qty": NUMBERS,
        "source": st.sampled_from(["Watch A", "Phone A|Watch A", 'a"b\\', "", None]),
        "Min": NUMBERS,
        "Max": NUMBERS,
        "value": NUMBERS | st.sampled_from(["Core", "Complete"]),
        "startDate": st.sampled_from(DATES),
        "endDate": st.sampled_from(DATES),
        "systolic": NUMBERS,
        "mealTime": st.text(max_size=5),
        "extra": GARBAGE,
    },
)
ELEMENTS = st.lists(POINTS | GARBAGE, max_size=6)
NAMES = ["step_count", "heart_rate", "sleep_analysis", "blood_pressure", "new_one", "HKQuantityTypeIdentifierBodyMass"]
METRICS = st.fixed_dictionaries(
    {"name": st.sampled_from(NAMES), "units": st.sampled_from(["count", "count/min", "hr", "mmHg", "lb", "?"])},
    optional={"data": ELEMENTS | st.none()},
)
LISTS = st.dictionaries(st.sampled_from(["route", "heartRateData", "stepCount", "tags"]), ELEMENTS, max_size=3)
WORKOUTS = st.builds(
    lambda facts, lists: facts | lists,
    st.fixed_dictionaries(
        {"name": st.text(max_size=5), "start": st.sampled_from(DATES)},
        optional={"id": st.uuids().map(str), "end": st.sampled_from(DATES), "distance": GARBAGE},
    ),
    LISTS,
)
SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "metrics": st.lists(METRICS | st.none(), max_size=4) | st.dictionaries(st.sampled_from(NAMES), ELEMENTS),
        "workouts": st.lists(WORKOUTS | GARBAGE, max_size=3),
        "symptoms": ELEMENTS,
        "stateOfMind": ELEMENTS,
        "ecg": st.lists(st.fixed_dictionaries({"start": st.sampled_from(DATES), "voltageMeasurements": ELEMENTS})),
        "somethingNew": ELEMENTS | GARBAGE,
        "heartRateNotifications": ELEMENTS | st.none(),
    },
)
EXPORTS = (
    SECTIONS.map(lambda data: {"data": data})
    | SECTIONS
    | st.builds(lambda data, beside: {"data": data, **beside}, SECTIONS | st.none(), SECTIONS)
)


def accepted(body: bytes = b"", **values: Any) -> Accepted:
    """Return what was accepted of a body."""
    known = {"id": "0190d5a0-0000-7000-8000-000000000000", "user": 1, "received_at": datetime(2026, 2, 3, tzinfo=UTC)}
    return Accepted(**(known | {"raw": "raw", "bytes": len(body), "sha256": ""} | values))  # type: ignore[arg-type]


def divided(body: bytes, limit: int = 10_000_000, **values: Any) -> list[Part]:
    """Return the parts of a body; that they are numbered and closed is tested every time."""
    parts = list(divide(accepted(body, **values), lambda: io.BytesIO(body), limit))
    assert [part.number for part in parts] == list(range(len(parts)))
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    return parts


def rows(parts: list[Part]) -> list[dict[str, Any]]:
    """Return the rows of all parts; that none is missing is tested every time."""
    found: list[dict[str, Any]] = []
    for part in parts:
        *others, last = parse(pack(part)).to_pylist()
        received = json.loads(last["fields"])["received"]
        assert Counter(row["type"] for row in others) == Counter(received)
        found += others
    return found
