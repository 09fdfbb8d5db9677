"""Parser of wide records, as the internal form of an export has them.

A record with several measured columns counts as that many received points, of the types that they become; an event in
it counts as one more. A column that holds no number is one point too, and goes into quarantine alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import catalogue
from .dates import Instant
from .elements import Element, Unreadable, finite, number, snake
from .forms import ABOUT, FORMS, Form
from .records import POINT, QUARANTINED, WORKOUT, Records, as_text, encode_sorted, section
from .slices import Slice, elements
from .slices import Unreadable as Garbage
from .sources import normalise
from .translations import code
from .units import conversion
from .workouts import WORKOUTS, workout

_VITAMIN_D = 0.025
"""Micrograms of an international unit of vitamin D; of other things it is another amount."""
_PARTS = {"systolic": "blood_pressure_systolic", "diastolic": "blood_pressure_diastolic"}


@section("internal")
def internal(slice: Slice, records: Records) -> None:
    """Make points of records that say their ``type``: ``{"type": "HeartRate", "heart_rate": 61, ...}``."""
    for index, record in enumerate(elements(slice.payload), slice.first):
        name = str(record.get("type") or "") if isinstance(record, dict) else ""
        add(slice, records, index, record, name, FORMS.get(name))


def add(slice: Slice, records: Records, index: int, record: Any, name: str, form: Form | None) -> None:
    """Add the points of one record of the form ``name``; one that cannot be read counts as one, of the type of it."""
    type = catalogue.canonical(snake(name) or slice.section)
    if form is not None:
        type = WORKOUTS if form.workout else form.event or type
    if not isinstance(record, dict):
        reason = record.reason if isinstance(record, Garbage) else f"expected an object, got {as_text(record):.80}"
        records.received(type)
        records.quarantine(slice, index, reason, record, type=type)
        return
    element = Element(record, index)
    try:
        rows = list(_rows(element, form or Form(event=type, value=("value", "")), type))
    except Unreadable as reason:
        records.received(type)
        records.quarantine(slice, index, str(reason), record, type=type)
        return
    for row in rows:
        records.received(row["type"])
        if row["record"] == QUARANTINED:
            path = f"{slice.path}[{index}].{row['column']}"
            records.quarantine(slice, index, row["reason"], record, type=row["type"], path=path)
        else:
            flags = [*element.flags, *row.pop("flags", [])]
            records.add(**{"warnings": encode_sorted(flags) if flags else None, **row})


def _rows(element: Element, form: Form, type: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a record, at least one; raises Unreadable if it has no time, or says nothing."""
    if form.workout:
        row = workout(element)
        yield {"record": WORKOUT, "type": WORKOUTS, "unit": "s", **row}
        return
    start = element.start(*form.time)
    shared = _shared(element, form, start)
    others = _others(element, form)
    measured = [each for column in form.measured if (each := _measured(element, column, *form.measured[column]))]
    value = element.get(form.value[0]) if form.value else None
    if form.event and (others or value is not None or not measured):
        yield shared | _event(element, form, others, value)
        others = {}
    elif not measured:
        if not others:
            raise Unreadable("no value: none of the columns of its form is there")
        yield shared | {"type": type, "metric": type, "kind": element.text(*form.kind), "fields": encode_sorted(others)}
    fields = encode_sorted(others) if others else None
    for each in measured:
        yield shared | {"kind": element.text(*form.kind), "fields": fields} | each


def _shared(element: Element, form: Form, start: Instant) -> dict[str, Any]:
    source = next((element.get(key) for key in form.source if element.get(key)), None)
    return {
        "record": POINT,
        "index": element.index,
        "time": start.micros,
        "end_time": element.end(start, *form.end).micros,
        "source": normalise(source),
        "original": element.original(),
        "offset_minutes": start.offset_minutes,
    }


def _others(element: Element, form: Form) -> dict[str, Any]:
    """Return the columns that say something and are neither measured nor columns of a row."""
    value = form.value[0] if form.value else ""
    without = {*form.measured, *form.time, *form.end, *form.source, *ABOUT, value}
    return {
        form.renamed.get(column, column): said
        for column, said in element.value.items()
        if column not in without and said is not None
    }


def _event(element: Element, form: Form, fields: dict[str, Any], value: Any) -> dict[str, Any]:
    plain = _plain(value)
    if value is not None and plain is None:
        fields = fields | {form.value[0] if form.value else "value": value}
    if not fields and plain is None:
        raise Unreadable("no value: it says nothing but its time")
    codes = {f"{name}_code": found for name, table in form.codes.items() if (found := code(table, fields.get(name)))}
    kind = form.constant or element.text(*form.kind)
    metric = form.metrics.get(kind, form.event)
    unit = form.value[1] if form.value else ""
    flags = [flag for name, known in _PARTS.items() for flag in _flags(known, number(fields.get(name)))]
    return {
        "type": metric,
        "metric": metric,
        "kind": kind if metric == form.event else "",
        "fields": encode_sorted(fields | codes) if fields else None,
        **_converted(metric, plain, unit),
        "flags": flags + _flags(metric, plain),
    }


def _measured(element: Element, column: str, metric: str, unit: str) -> dict[str, Any] | None:
    """Return what is in a measured column as the columns of a point; None if there is nothing."""
    said = element.get(column)
    if said is None or said == "":
        return None
    value = _plain(said)
    if value is None:
        reason = f"{column}: expected a number, got {as_text(said):.80}"
        return {"record": QUARANTINED, "type": metric, "reason": reason, "column": column}
    converted = _converted(metric, value, unit)
    return {"type": metric, "metric": metric, **converted, "flags": _flags(metric, converted["value"])}


def _plain(value: Any) -> float | None:
    """Return the number that is meant; that of a truth is 0 or 1."""
    return float(value) if isinstance(value, bool) else number(value)


def _converted(metric: str, value: float | None, unit: str) -> dict[str, Any]:
    """Return value and unit in the unit of the metric, where the unit is one that can become it."""
    known = catalogue.METRICS.get(metric)
    wanted = known.unit if known and known.unit else unit
    if value is not None and (metric, unit) == ("vitamin_d", "IU"):
        return {"value": value * _VITAMIN_D, "unit": "mcg", "original_unit": unit}
    convert = conversion(unit, wanted) if unit else None
    if value is not None and convert and finite(convert(value)) is not None:
        value, said = convert(value), wanted
        if known and known.fraction and 0 < value <= 1:
            value *= 100
    else:
        said = unit
    return {"value": value, "unit": said or None, "original_unit": unit or None}


def _flags(metric: str, value: float | None) -> list[dict[str, str]]:
    known = catalogue.METRICS.get(metric)
    if known is None or value is None:
        return []
    low = known.low if known.low is not None else value
    high = known.high if known.high is not None else value
    if low <= value <= high:
        return []
    message = f"{metric} is {value:g} {known.unit}, expected {known.plausible()}"
    return [{"warning": "suspicious_value", "message": message}]
