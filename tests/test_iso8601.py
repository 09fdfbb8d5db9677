"""Every time that a type can hold is written exactly; NumPy, whose calendar has no last year, is asked."""

from __future__ import annotations

import re
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock import iso8601
from penstock.codecs.csv import Csv
from penstock.codecs.json import Json
from penstock.errors import PermanentError

TICKS = st.one_of(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(-(2**60), 2**60), st.integers(-(10**14), 10**14))
LIMITS = (-62_167_219_200, 253_402_300_800)
"""The first second of the year 0, and the first of the year 10000."""


def as_numpy_writes(value: int, unit: str) -> str:
    """What NumPy writes, with our sign and digits for years that do not have four."""
    text = str(np.datetime64(value, unit))
    sign, year, rest = re.fullmatch(r"([+-]?)(\d+)(-.*)", text).groups()
    number = int(year) * (-1 if sign == "-" else 1)
    return (f"{number:04d}" if 0 <= number <= 9999 else f"{number:+07d}") + rest


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.none() | TICKS, min_size=1, max_size=4))
@example(values=[LIMITS[0], LIMITS[0] - 1, LIMITS[1], LIMITS[1] - 1, None])
@example(values=[limit * 10**6 + step for limit in LIMITS for step in (-1, 0, 1)])
@example(values=[2**62, -(2**62), 0, None])
def test_timestamps_are_exact(unit: str, values: list[int | None]) -> None:
    if unit == "s":  # NumPy ends where the year has more than 32 bits
        values = [None if value is None else value % 2**55 for value in values]
    written = iso8601.timestamps(pa.array(values, pa.timestamp(unit))).to_pylist()
    assert written == [None if value is None else as_numpy_writes(value, unit) for value in values]


@settings(max_examples=100, deadline=None)
@given(days=st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=4))
def test_dates_are_exact(days: list[int | None]) -> None:
    expected = [None if day is None else as_numpy_writes(day, "D") for day in days]
    assert iso8601.dates(pa.array(days, pa.date32())).to_pylist() == expected
    milliseconds = [None if day is None else day * 86_400_000 for day in days]
    assert iso8601.dates(pa.array(milliseconds, pa.date64())).to_pylist() == expected


def test_times_of_day_end_at_24_hours() -> None:
    assert iso8601.times(pa.array([0, 86_399, 86_400, None], pa.time32("s"))).to_pylist() == [
        "00:00:00",
        "23:59:59",
        "24:00:00",
        None,
    ]
    assert iso8601.times(pa.array([1, 86_400 * 10**9], pa.time64("ns"))).to_pylist() == [
        "00:00:00.000000001",
        "24:00:00.000000000",
    ]
    for wrong in (-1, 86_400_001):
        with pytest.raises(PermanentError, match="not between"):
            iso8601.times(pa.array([wrong], pa.time32("ms")))


def test_intervals_keep_the_sign_of_each_part() -> None:
    values = [(14, 3, 1_500_000_000), (-1, 2, -1), (0, 0, 0), (0, -1, 0), (0, 0, -(2**63)), None]
    assert iso8601.intervals(pa.array(values, pa.month_day_nano_interval())).to_pylist() == [
        "P14M3DT1.500000000S",
        "P-1M2DT-0.000000001S",
        "PT0S",
        "P-1D",
        "PT-9223372036.854775808S",
        None,
    ]


def test_json_and_csv_write_them() -> None:
    batch = pa.record_batch({"at": pa.array([2**62, 0], pa.timestamp("us", "UTC"))})
    assert Json().encode(batch).to_pylist() == [
        b'{"at":"+148108-07-06T14:00:27.387904Z"}',
        b'{"at":"1970-01-01T00:00:00.000000Z"}',
    ]
    assert Csv(columns=["at"]).encode(batch).to_pylist()[0] == b"+148108-07-06T14:00:27.387904Z"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Africa/Monrovia", "Asia/Kolkata", "America/New_York"])
def test_a_time_before_standard_time_is_exact(zone: str) -> None:
    times = pa.array([-2_422_054_408_000_001, -1, None], pa.timestamp("us", zone))
    texts = iso8601.plain(times).cast(pa.string()).to_pylist()
    found = [text and datetime.fromisoformat(text) for text in texts]
    assert found == times.cast(pa.timestamp("us", "UTC")).to_pylist()
