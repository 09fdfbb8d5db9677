"""Durations as people write them: ``10ms``, ``1s``, ``1h30m``."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS = {
    **dict.fromkeys(("ns", "nsec", "nanos"), 1e-9),
    **dict.fromkeys(("us", "usec", "micros"), 1e-6),
    **dict.fromkeys(("ms", "msec", "millis"), 1e-3),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
    **dict.fromkeys(("M", "month", "months"), 30.44 * 86400.0),
    **dict.fromkeys(("y", "yr", "year", "years"), 365.25 * 86400.0),
}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)")


def seconds(value: Any) -> float:
    """Read ``value`` as seconds; raises ValueError for what is not a duration with a unit."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Seconds):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected a duration with a unit, for example '10ms', '1s' or '1h30m', not {value!r}")
    total, at = 0.0, 0
    while at < len(value.rstrip()):
        part = _PART.match(value, at)
        if part is None or part[2] not in _UNITS:
            raise ValueError(f"expected a duration, for example '10ms', '1s' or '1h30m', not {value!r}")
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if not value.strip():
        raise ValueError("expected a duration, for example '10ms', not an empty text")
    return Seconds(total)


class Seconds(float):
    """A number of seconds that was read from a duration."""


def written(duration: float) -> str:
    """Write a number of seconds as a duration that ``seconds`` reads."""
    return f"{Decimal(float.__repr__(duration)):f}".removesuffix(".0") + "s"


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    PlainSerializer(written, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["10ms", "1s", "1h30m"]}),
]
"""A span of time, in seconds; written with its unit, in Python also as a timedelta."""
