"""Parsers of electrocardiograms and of their voltages."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np

from .dates import Instant
from .elements import Element, Rows, Unreadable, elements, parent
from .lists import Table, converted, nullable
from .records import POINT, SERIES, Records, encode_sorted, section
from .slices import Slice
from .sources import normalise
from .translations import code

ECG, VOLTAGE, UNIT = "ecg", "ecg_voltage", "count/min"
NAMESPACE = uuid.UUID("0b1f7a52-5d2c-5f43-8d0e-6c1d7a9f4e21")
"""Of the ids of electrocardiograms: the app sends none."""
START, END = ("start", "startDate", "date"), ("end", "endDate")


@section("ecg")
def electrocardiograms(slice: Slice, records: Records) -> None:
    """Make each electrocardiogram of ``slice`` a point; its value is the average heart rate."""
    rows = Rows(record=POINT, type=ECG, metric=ECG, unit=UNIT)
    for element in elements(slice, records, ECG):
        try:
            rows.add(**point(element))
        except Unreadable as reason:
            records.quarantine(slice, element.index, str(reason), element.value, type=ECG)
    rows.flush(records)


def point(element: Element) -> dict[str, Any]:
    """Return the columns of the point of an electrocardiogram; raises Unreadable if it has no time."""
    start = element.start(*START)
    end = element.end(start, *END)
    fields = element.fields(*START, *END, "source")
    for name in ("classification", "severity"):
        if found := code(name, element.get(name)):
            fields[f"{name}_code"] = found
    fields["series"] = identity(element, start, end)
    return {
        "index": element.index,
        "time": start.micros,
        "end_time": end.micros,
        "source": normalise(element.get("source")),
        "value": element.number("averageHeartRate"),
        "fields": encode_sorted(fields),
        "original": element.original(),
        "offset_minutes": start.offset_minutes,
        "warnings": element.warnings(),
    }


def identity(element: Element, start: Instant, end: Instant) -> str:
    """Return the id of an electrocardiogram, under which its voltages are: made of start, end and source."""
    parts = [start.micros, end.micros, normalise(element.text("source"))]
    return str(uuid.uuid5(NAMESPACE, encode_sorted(parts).decode()))


@section("ecg_voltages")
def voltages(slice: Slice, records: Records) -> None:
    """Make each voltage of an electrocardiogram a row; its time is to the microsecond where the app says it so."""
    table = Table(slice, records, VOLTAGE)
    try:
        element = parent(slice)
        start = element.start(*START)
        series = identity(element, start, element.end(start, *END))
    except Unreadable as reason:
        table.refuse(f"its electrocardiogram cannot be stored: {reason}")
        return
    times = table.times("date", "time", "timestamp")
    numbers = table.numbers("voltage", "value", "qty")
    for place in np.flatnonzero(np.isnan(numbers)).tolist():
        table.fault(place, "no voltage: expected a number under voltage")
    sent = table.column("units", "unit")
    units, (numbers,) = converted(sent, VOLTAGE, numbers)
    table.add(
        record=SERIES,
        parent=series,
        metric=VOLTAGE,
        time=times.micros,
        source=normalise(element.get("source")),
        value=nullable(numbers),
        unit=units,
        fields=table.fields("date", "time", "timestamp", "voltage", "value", "qty", "units", "unit"),
        original=table.originals(),
        original_unit=[unit if isinstance(unit, str) else None for unit in sent],
        offset_minutes=times.offset_minutes(),
        warnings=table.warnings({}, {}),
    )
