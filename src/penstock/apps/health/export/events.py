"""Parsers of what happened once: symptoms, cycle, state of mind, medications, notifications of the heart rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .dates import text
from .elements import Element, Rows, Unreadable, elements, snake
from .records import POINT, Records, encode_sorted, section
from .slices import Slice
from .sources import normalise
from .translations import code

START = ("start", "startDate", "date", "timestamp", "recorded_at")
END = ("end", "endDate", "end_time")


@dataclass(frozen=True)
class Event:
    """How the elements of a section become points."""

    metric: str
    kind: Callable[[Element], str]
    value: Callable[[Element], float | None] = lambda _: None
    unit: str | None = None
    start: tuple[str, ...] = START
    codes: Mapping[str, str] = field(default_factory=dict)
    """Key of a text in the language of the phone -> its table."""
    add: Callable[[Element, dict[str, Any]], None] = lambda *_: None
    """Adds to the fields what follows from the element."""


def _cycle_code(element: Element, fields: dict[str, Any]) -> None:
    """Read the value as what its name makes it: a flow, or a test result or quality."""
    found = code("flow" if fields.get("name_code") == "menstrual_flow" else "cycle_value", element.get("value"))
    if found:
        fields["value_code"] = found


def _dose(element: Element, fields: dict[str, Any]) -> None:
    """Say whether a dose was taken: the app sends a dosage for skipped ones too."""
    fields["taken"] = _taken(element)
    if fields["taken"] is None:
        element.warn("unknown_text", "whether a dose was taken is open: its status is in no table of translations")


def _taken(element: Element) -> bool | None:
    found = code("medication_status", element.get("status"))
    return found == "taken" if found else None


def _scheduled(element: Element) -> str:
    """Return what tells doses of one time apart: the name and the scheduled time, or the status without one."""
    try:
        scheduled = element.moment("scheduledDate")
    except Unreadable:
        scheduled = None
    when = text(scheduled.micros) if scheduled else element.text("scheduledDate", "status")
    return " ".join(filter(None, (element.text("displayText", "nickname"), when)))


EVENTS: Mapping[str, Event] = {
    "symptoms": Event(
        "symptoms", lambda element: element.text("name"), codes={"name": "symptom", "severity": "severity"}
    ),
    "cycleTracking": Event(
        "cycle_tracking", lambda element: element.text("name"), codes={"name": "cycle_name"}, add=_cycle_code
    ),
    "stateOfMind": Event(
        "state_of_mind",
        lambda element: element.text("id", "kind"),
        value=lambda element: element.number("valence"),
    ),
    "medications": Event(
        "medications",
        _scheduled,
        value=lambda element: element.number("dosage") if _taken(element) else None,
        start=(*START, "scheduledDate"),
        codes={"status": "medication_status"},
        add=_dose,
    ),
    "heartRateNotifications": Event(
        "heart_rate_notifications",
        lambda element: snake(element.text("heartNotification")),
        value=lambda element: element.number("threshold"),
        unit="count/min",
    ),
}
"""The events by the section of the body."""


@section(*EVENTS)
def events(slice: Slice, records: Records) -> None:
    """Make each element of ``slice`` a point; one without a time that can be read goes into quarantine."""
    event = EVENTS[slice.section]
    rows = Rows(record=POINT, type=event.metric, metric=event.metric)
    for element in elements(slice, records, event.metric):
        try:
            rows.add(**point(element, event))
        except Unreadable as reason:
            records.quarantine(slice, element.index, str(reason), element.value, type=event.metric)
    rows.flush(records)


def point(element: Element, event: Event) -> dict[str, Any]:
    """Return the columns of the point of an event; raises Unreadable if it has no time."""
    start = element.start(*event.start)
    end = element.end(start, *END)
    fields = element.fields(*START, *END, "source")
    if isinstance(element.get("source"), dict):
        fields["source"] = element.get("source")
    fields |= {f"{key}_code": found for key, table in event.codes.items() if (found := code(table, element.get(key)))}
    event.add(element, fields)
    value = event.value(element)
    return {
        "index": element.index,
        "time": start.micros,
        "end_time": end.micros,
        "source": normalise(element.get("source")),
        "kind": event.kind(element),
        "value": value,
        "unit": event.unit if value is not None else None,
        "fields": encode_sorted(fields),
        "original": element.original(),
        "offset_minutes": start.offset_minutes,
        "warnings": element.warnings(),
    }
