"""Rows of CSV that say what happened once, read as the same events are read from JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from . import ecg, events
from .elements import Element, Rows, Unreadable
from .kinds import Kind
from .records import POINT, Records
from .sheets import ENDS, SOURCES, TIMES, Sheet
from .slices import Slice

_RENAMED: Mapping[Kind, Mapping[str, str]] = {
    Kind.SYMPTOMS: {"symptom": "name", "symptom_name": "name", "type": "name"},
    Kind.STATE_OF_MIND: {"state": "kind", "type": "kind"},
    Kind.ECG: {"avg_heart_rate": "averageHeartRate"},
    Kind.MEDICATIONS: {
        **{"medication": "displayText", "medication_name": "displayText", "name": "displayText"},
        **{"dose": "dosage", "scheduled_time": "scheduledDate", "archived": "isArchived"},
    },
    Kind.NOTIFICATIONS: dict.fromkeys(("notification", "name", "type", "event"), "heartNotification"),
    Kind.CYCLE: {"type": "name", "cycle_start": "isCycleStart", "start_of_cycle": "isCycleStart"},
}
"""What JSON calls otherwise than the header of a column in camel case."""
_LISTS = frozenset(("labels", "associations"))
_NUMBERS = frozenset(
    (
        "valence",
        "dosage",
        "averageHeartRate",
        "heartRate",
        "threshold",
        "samplingFrequency",
        "numberOfVoltageMeasurements",
    )
)
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_ARE_TRUTHS = frozenset(("userEntered", "isCycleStart", "isArchived"))


def occurrences(slice: Slice, records: Records, sheet: Sheet, kind: Kind) -> None:
    """Make each row a point, as the element of a JSON list that says the same."""
    metric, unit, point = _reader(kind)
    rows = Rows(record=POINT, type=metric, metric=metric, **unit)
    for place, row in zip(sheet.places, sheet.rows, strict=True):
        records.received(metric)
        try:
            rows.add(**point(Element(_element(sheet, row, kind), place)))
        except Unreadable as reason:
            records.quarantine(slice, place, str(reason), sheet.element(row), type=metric)
    rows.flush(records)


def _reader(kind: Kind) -> tuple[str, dict[str, str], Callable[[Element], dict[str, Any]]]:
    if kind is Kind.ECG:
        return ecg.ECG, {"unit": ecg.UNIT}, ecg.point
    event = events.EVENTS[kind.value]
    return event.metric, {}, lambda element: events.point(element, event)


def _element(sheet: Sheet, row: list[str], kind: Kind) -> dict[str, Any]:
    """Return what the app would send as JSON."""
    named = {sheet.find(TIMES): "start", sheet.find(ENDS): "end", sheet.find(SOURCES): "source"}
    found: dict[str, Any] = {}
    for column, (head, cell) in enumerate(zip(sheet.heads, row, strict=True)):
        if cell.strip():
            key = named.get(column) or _RENAMED[kind].get(head.name) or _camel(head.name) or head.text
            found[head.text if key in found else key] = _value(sheet, key, cell.strip())
    return found


def _value(sheet: Sheet, key: str, cell: str) -> Any:
    if key in _LISTS:
        return [part.strip(" \"'") for part in re.split(r"[,;|]", cell.strip("[]")) if part.strip(" \"'")]
    if key in _ARE_TRUTHS:
        return _TRUTHS.get(cell.lower(), cell)
    number = sheet.number(cell) if key in _NUMBERS else None
    return cell if number is None else number


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)
