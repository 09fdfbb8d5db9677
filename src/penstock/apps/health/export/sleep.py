"""The points of sleep: segments of one stage, and nights that the app has added up."""

from __future__ import annotations

import re
from typing import Any

from .catalogue import METRICS, snake
from .dates import Instant, instant, text
from .metrics import number
from .records import POINT, Records, as_text, encode_sorted
from .slices import Slice
from .sources import normalise
from .translations import code
from .units import Conversion, conversion

_NAME = "sleep_analysis"
_STAGES = {
    "inbed": "in_bed",
    "awake": "awake",
    "asleep": "asleep",
    "core": "core",
    "asleepcore": "core",
    "light": "core",
    "deep": "deep",
    "asleepdeep": "deep",
    "rem": "rem",
    "asleeprem": "rem",
    "unspecified": "unspecified",
    "asleepunspecified": "unspecified",
    # the numbers of HealthKit
    "0": "in_bed",
    "1": "unspecified",
    "2": "awake",
    "3": "core",
    "4": "deep",
    "5": "rem",
}
_DURATIONS = ("totalSleep", "asleep", "awake", "core", "deep", "rem", "inBed", "unspecified")
_MOMENTS = ("date", "sleepStart", "sleepEnd", "inBedStart", "inBedEnd")
_OF_SEGMENTS = frozenset(
    ("startDate", "start", "endDate", "end", "date", "qty", "value", "source", "units", "unit", "stage")
)


def sleep(slice: Slice, records: Records, places: list[int], found: list[dict[str, Any]]) -> None:
    """Make a row of each segment and each night; a segment of no known stage keeps the name that was sent."""
    rows: list[dict[str, Any]] = []
    for place, one in zip(places, found, strict=True):
        try:
            row = _night(one, slice) if _is_night(one) else _segment(one, slice)
        except ValueError as reason:
            records.quarantine(slice, place, str(reason), one, type=_NAME)
            continue
        row["index"], row["original"] = place, encode_sorted(one)
        rows.append(row)
    if rows:
        names = {name for row in rows for name in row}
        columns: dict[str, Any] = {name: [row.get(name) for row in rows] for name in names}
        records.extend(len(rows), {"record": POINT, "type": _NAME, "metric": _NAME, **columns})


def _is_night(one: dict[str, Any]) -> bool:
    if one.get("value") is not None or one.get("stage") is not None:
        return False
    return any(one.get(name) is not None for name in (*_DURATIONS, *_MOMENTS[1:]))


def _segment(one: dict[str, Any], slice: Slice) -> dict[str, Any]:
    start, end = _moment(one, "startDate", "start", "date"), _moment(one, "endDate", "end")
    if start is None:
        raise ValueError("expected a time under startDate, got nothing")
    said = one.get("value") if one.get("value") is not None else one.get("stage")
    if said is None:
        raise ValueError("no stage: expected Awake, Core, Deep, REM, In Bed, Asleep or Unspecified under value")
    stage = as_text(said) if not isinstance(said, str) else said
    warnings = _assumed(start)
    unit = _unit(one, slice)
    convert = conversion(unit, "min") if unit else None
    stated = one.get("qty")
    length = None if stated is None else _hours(stated, "qty")
    value, stored = length, "min"
    if length is not None and convert is not None:
        value = convert(length)
    elif end is not None and (length is None or unit is None):
        value = (end.micros - start.micros) / 60e6
    elif length is not None:
        stored = unit or ""
        warnings.append({"warning": "unknown_unit", "message": f"expected hr or min, got {unit!r}; kept as it is"})
    if value is None:
        raise ValueError("no length: expected a time under endDate, or a number under qty")
    if end is not None and end.micros < start.micros:
        warnings.append({"warning": "end_before_start", "message": f"it ends at {text(end.micros)}, before it starts"})
    _flag(warnings, "the segment", value if stored == "min" else None)
    known = _STAGES.get(re.sub(r"[\W_]+", "", stage.removeprefix("HKCategoryValueSleepAnalysis")).lower())
    known = known or code("sleep_stage", stage)
    fields = {name: held for name, held in one.items() if name not in _OF_SEGMENTS and held is not None}
    if known is None:
        fields["value"] = said
        message = f"the stage {stage[:80]!r} is not known; it is kept, and not counted as sleep"
        warnings.append({"warning": "unknown_text", "message": message})
    kind = known or re.sub(r"[\W_]+", "_", snake(stage)).strip("_") or "unknown"
    return _row(start, end, kind, value, stored, fields, warnings, one.get("source"), unit)


def _night(one: dict[str, Any], slice: Slice) -> dict[str, Any]:
    moments = {name: _moment(one, name) for name in _MOMENTS}
    start = moments["sleepStart"] or moments["inBedStart"] or moments["date"]
    if start is None:
        raise ValueError("expected a time under sleepStart, inBedStart or date, got nothing")
    unit = _unit(one, slice)
    convert = conversion(unit, "min") if unit else None
    warnings = _assumed(start)
    if convert is None:
        warnings.append({"warning": "unknown_unit", "message": f"expected hr or min, got {unit!r}; kept as it is"})
    in_minutes = convert or Conversion(1.0)
    lengths = {name: in_minutes(_hours(one[name], name)) for name in _DURATIONS if one.get(name) is not None}
    for name, length in lengths.items():
        _flag(warnings, name, length if convert is not None else None)
    value = lengths.get("totalSleep") or lengths.get("asleep")
    if value is None or value == 0:
        stages = [lengths[name] for name in ("core", "deep", "rem", "unspecified") if name in lengths]
        value = sum(stages) if stages else value
    fields: dict[str, Any] = {snake(name): length for name, length in lengths.items()}
    for name in ("date", "inBedStart", "inBedEnd"):
        moment = moments[name]
        if moment is not None and one[name] is not None:
            fields[snake(name)] = one[name] if name == "date" else text(moment.micros, moment.offset_minutes)
    known = {*_DURATIONS, *_MOMENTS, "source", "units", "unit"}
    fields |= {snake(name): held for name, held in one.items() if name not in known and held is not None}
    source = next((one[name] for name in ("source", "sleepSource", "inBedSource") if one.get(name)), None)
    end = moments["sleepEnd"] or moments["inBedEnd"]
    if value is None and not fields:
        raise ValueError("no length: expected a number under totalSleep, asleep, core, deep, rem or inBed")
    return _row(start, end, "aggregated", value, "min" if convert else unit or "", fields, warnings, source, unit)


def _row(
    start: Instant,
    end: Instant | None,
    kind: str,
    value: float | None,
    unit: str,
    fields: dict[str, Any],
    warnings: list[dict[str, str]],
    source: Any,
    sent: str | None,
) -> dict[str, Any]:
    return {
        "time": start.micros,
        "end_time": start.micros if end is None else end.micros,
        "kind": kind,
        "value": value,
        "unit": unit,
        "fields": encode_sorted(fields) if fields else None,
        "source": normalise(source),
        "original_unit": sent,
        "offset_minutes": start.offset_minutes,
        "warnings": encode_sorted(warnings) if warnings else None,
    }


def _moment(one: dict[str, Any], *names: str) -> Instant | None:
    for name in names:
        if one.get(name) is not None and one[name] != "":
            try:
                return instant(one[name])
            except ValueError as invalid:
                raise ValueError(f"{name}: {invalid}") from None
    return None


def _hours(value: Any, name: str) -> float:
    found = number(value)
    if found is None:
        raise ValueError(f"{name}: expected a number, got {as_text(value):.80}")
    return found


def _unit(one: dict[str, Any], slice: Slice) -> str | None:
    own = one.get("units", one.get("unit"))
    return own if isinstance(own, str) else slice.units


def _assumed(start: Instant) -> list[dict[str, str]]:
    if not start.assumed:
        return []
    return [{"warning": "assumed_utc", "message": "the time says no offset; UTC was assumed"}]


def _flag(warnings: list[dict[str, str]], name: str, minutes: float | None) -> None:
    metric = METRICS[_NAME]
    assert metric.low is not None
    assert metric.high is not None
    if minutes is not None and not metric.low <= minutes <= metric.high:
        message = f"{name} is {minutes:g} min, expected {metric.plausible()}"
        warnings.append({"warning": "suspicious_value", "message": message})
