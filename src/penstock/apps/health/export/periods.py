"""The period of aggregated points: of a minute, an hour, a day ..., as the app says it, else as the times tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

SECOND, MINUTE, HOUR, DAY = 1, 60, 3600, 86_400
_MONTH, _YEAR = 30 * DAY, 365 * DAY
_NAMES = {
    "second": SECOND,
    "minute": MINUTE,
    "hour": HOUR,
    "day": DAY,
    "week": 7 * DAY,
    "month": _MONTH,
    "year": _YEAR,
}
_NONE = frozenset(("none", "off", "raw", "false"))
_UNKNOWN = frozenset(("", "default"))
_MICROS = 1_000_000
_Ints = np.ndarray[Any, np.dtype[np.int64]]


def stated(headers: Mapping[str, str]) -> int | None:
    """Return the seconds of the header ``automation-aggregation``: 0 for samples, None where it does not say."""
    said = {name.lower(): value for name, value in headers.items()}.get("automation-aggregation", "").strip().lower()
    if said in _NONE:
        return 0
    if said in _UNKNOWN:
        return None
    return _NAMES.get(said.removesuffix("s"))


def infer(starts: _Ints, offsets: Any, *, joined: bool = False, measured: bool = False) -> int:
    """Return the seconds of the buckets that begin at ``starts``; 0 where they are samples.

    Days all begin at midnight, and hours at the hour, an hour apart somewhere. Where the sources of points are
    ``joined``, or the metric is ``measured`` by devices and not entered by a person, all that begins at full hours or
    minutes is a bucket, a single one too. ``starts`` are microseconds since 1970 in UTC, ``offsets`` minutes east of
    UTC.
    """
    if not len(starts):
        return 0
    local = starts + offsets.astype(np.int64) * (MINUTE * _MICROS)
    if not (local % (DAY * _MICROS)).any():
        return DAY
    aggregated = joined or measured
    if (local % (HOUR * _MICROS)).any():
        return MINUTE if aggregated and not (local % (MINUTE * _MICROS)).any() else 0
    apart = np.diff(np.unique(starts))
    return HOUR if aggregated or (len(apart) and apart.min() == HOUR * _MICROS) else 0


def ends(starts: _Ints, offsets: Any, period: int) -> _Ints:
    """Return the ends of buckets; of months and years, by the local calendar."""
    if period not in (_MONTH, _YEAR):
        return starts + period * _MICROS
    shift = offsets.astype(np.int64) * (MINUTE * _MICROS)
    unit = "M" if period == _MONTH else "Y"
    begin = (starts + shift).astype("datetime64[us]").astype(f"datetime64[{unit}]")
    lengths: _Ints = ((begin + 1).astype("datetime64[us]") - begin.astype("datetime64[us]")).astype(np.int64)
    return starts + lengths
