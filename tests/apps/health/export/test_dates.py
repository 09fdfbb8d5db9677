from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.apps.health.export.dates import FIRST, LAST, instant, instants, text

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected", "offset"),
    [
        ("2026-02-03 07:15:00 +0100", "2026-02-03T06:15:00Z", 60),
        ("2026-02-03 07:15:00 -0330", "2026-02-03T10:45:00Z", -210),
        ("2026-02-03 07:15:00 +01:00", "2026-02-03T06:15:00Z", 60),
        ("2026-02-03 9:05:00 PM +0100", "2026-02-03T20:05:00Z", 60),
        ("2026-02-03 9:05:00\u202fPM +0100", "2026-02-03T20:05:00Z", 60),
        ("2026-02-03 9:05:00\u00a0pm +0100", "2026-02-03T20:05:00Z", 60),
        ("2026-02-03 9:05:00 am +0100", "2026-02-03T08:05:00Z", 60),
        ("2026-02-03 12:05:00 AM +0000", "2026-02-03T00:05:00Z", 0),
        ("2026-02-03 12:05:00 PM +0000", "2026-02-03T12:05:00Z", 0),
        ("2026-02-03T18:00:00Z", "2026-02-03T18:00:00Z", None),
        ("2026-02-03T18:00:00.123456Z", "2026-02-03T18:00:00.123456Z", None),
        ("2026-02-03T18:00:00.5-05:00", "2026-02-03T23:00:00.500000Z", -300),
        (1770099300, "2026-02-03T06:15:00Z", None),
        (1770099300.001951, "2026-02-03T06:15:00.001951Z", None),
        (1770099300001, "2026-02-03T06:15:00.001000Z", None),
        ("1770099300.5", "2026-02-03T06:15:00.500000Z", None),
    ],
)
def test_all_forms_of_a_time_are_read(value: Any, expected: str, offset: int | None) -> None:
    found = instant(value)
    assert (text(found.micros), found.offset_minutes, found.assumed) == (expected, offset, False)


@pytest.mark.parametrize(("value", "expected"), [("2026-02-03", "2026-02-03T00:00:00Z"), ("2026-02-03 07:15", None)])
def test_where_no_offset_is_said_utc_is_assumed_and_said_to_be(value: str, expected: str | None) -> None:
    found = instant(value)
    assert found.assumed
    assert found.offset_minutes is None
    assert expected is None or text(found.micros) == expected


GARBAGE = [
    *["", "garbage", "2026-02-30 00:00:00 +0000", "2026-13-01 00:00:00 +0000", "2026-02-03 25:00:00 +0000"],
    *["2026-02-03 13:00:00 PM +0000", "0001-01-01 00:00:00 +0100", "2026-02-03 07:15:00 +0160", "12", "9" * 400],
    *[None, True, [], {}, float("nan"), float("inf"), 1e300, -1e300, 10**400, "2026-02-03 07:15:00 +9900"],
]


@pytest.mark.parametrize("value", GARBAGE)
def test_garbage_is_no_time(value: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        instant(value)


def test_columns_are_read_as_single_values_are() -> None:
    mixed: list[Any] = [
        *[
            "2026-02-03 07:15:00 +0100",
            "2024-02-29 23:59:59 -1130",
            "1900-02-28 23:59:59 +0000",
            *GARBAGE,
            1770099300.5,
        ],
        *["2026-02-03", "2026-02-03 9:05:00\u202fPM +0100", "0002-01-01 00:00:00 +0000", "2026-02-03 07:15:60 +0100"],
    ]
    found = instants(mixed)
    for index, value in enumerate(mixed):
        if index in found.faults:
            with pytest.raises(ValueError, match="expected") as raised:
                instant(value)
            assert found.faults[index] == str(raised.value)
            continue
        one = instant(value)
        assert found.micros[index] == one.micros
        assert found.offset_minutes()[index].as_py() == one.offset_minutes
        assert (index in found.assumed) == one.assumed


def test_thousands_of_dates_are_read_by_columns() -> None:
    chosen = random.Random(1)
    times = [
        datetime(1800, 1, 1, tzinfo=UTC) + timedelta(seconds=chosen.randrange(400 * 365 * 86400)) for _ in range(9999)
    ]
    found = instants([f"{time:%Y-%m-%d %H:%M:%S} +0000" for time in times])
    assert not found.faults
    assert found.micros.tolist() == [(time - EPOCH) // timedelta(microseconds=1) for time in times]


def test_l19_an_hour_that_comes_twice_is_told_apart_by_the_offset() -> None:
    first, second = instant("2025-10-26 02:30:00 +0200"), instant("2025-10-26 02:30:00 +0100")
    assert second.micros - first.micros == 3600 * 10**6


@settings(deadline=None)
@given(st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.lists(st.text())))
def test_nothing_raises_anything_else(value: Any) -> None:
    try:
        found = instant(value)
    except ValueError:
        return
    assert FIRST <= found.micros <= LAST


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(max_size=30), st.floats(), st.none()), min_size=8))
def test_columns_never_raise(values: list[Any]) -> None:
    assert len(instants(values).micros) == len(values)


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2025-01-01 10:00:00 a. m. +0000", 10),
        ("2025-01-01 10:00:00\N{NARROW NO-BREAK SPACE}p.\N{NO-BREAK SPACE}m. +0000", 22),
        ("2025-01-01 下午10:00:00 +0000", 22),
        ("2025-01-01 上午12:00:00 +0000", 0),
        ("2025-01-01 午後1:05:00 +0000", 13),
        ("2025-01-01 오전 9:30:00 +0000", 9),
        ("2025-01-01 午後 12:00 +0000", 12),
    ],
)
def test_twelve_hours_are_read_as_other_languages_write_them(text: str, hour: int) -> None:
    assert datetime.fromtimestamp(instant(text).micros / 1e6, UTC).hour == hour
