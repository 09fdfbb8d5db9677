"""What kind of CSV a text is: told by the field of the upload, by the name of the file, or by its header."""

from __future__ import annotations

import re
from enum import Enum

from . import catalogue
from .sheets import ENDS, SOURCES, TIMES, Sheet
from .slices import Slice

NAMES = ("name", "metric", "metric_name", "type")
ACTIVITIES = ("workout_type", "workout", "workout_name", "activity", "activity_type", "name", "type")
VALUES = ("qty", "quantity", "value")
_PLAIN_ACTIVITIES = ACTIVITIES[:5]
_OF_EFFORT = {"duration", "distance", "total_energy", "active_energy", "avg_heart_rate", "max_heart_rate", "calories"}


class Kind(Enum):
    """The kinds of CSV; of events, the section that they are in JSON."""

    METRICS = "metrics"
    WORKOUTS = "workouts"
    SYMPTOMS = "symptoms"
    STATE_OF_MIND = "stateOfMind"
    ECG = "ecg"
    NOTIFICATIONS = "heartRateNotifications"
    MEDICATIONS = "medications"
    CYCLE = "cycleTracking"


_CALLED = {
    Kind.NOTIFICATIONS: ("heartratenotification", "heartnotification"),
    Kind.STATE_OF_MIND: ("stateofmind", "moods"),
    Kind.CYCLE: ("cycletracking", "menstrualcycle"),
    Kind.SYMPTOMS: ("symptom",),
    Kind.MEDICATIONS: ("medication",),
    Kind.ECG: ("ecg", "electrocardiogram"),
    Kind.WORKOUTS: ("workout",),
    Kind.METRICS: ("healthdata", "healthmetric", "metricsdata"),
}
"""How fields and files of each kind begin, after the name of the app."""
_NEEDED = {
    Kind.WORKOUTS: ACTIVITIES,
    Kind.SYMPTOMS: ("name", "symptom", "symptom_name", "type"),
    Kind.STATE_OF_MIND: ("valence", "labels", "kind"),
    Kind.ECG: ("classification", "average_heart_rate", "avg_heart_rate"),
    Kind.MEDICATIONS: ("display_text", "medication", "medication_name", "name", "nickname"),
    Kind.CYCLE: ("name", "type", "value"),
}
"""Columns of which one must be there, so that rows of a kind say what they are."""


def kind_of(slice: Slice, sheet: Sheet) -> Kind | str:
    """Return the kind of the rows; if it is not known, or they cannot be that, why they are not stored."""
    if not sheet.rows:
        return Kind.METRICS
    file = slice.name.rpartition("/")[2]
    told = _called(slice.field) or _called(file) or _by_header(sheet)
    if told is Kind.METRICS and sheet.find(VALUES) is None and not _has_metrics(sheet):
        told = _by_header(sheet) or told  # What is in the field of metrics may be something else.
    if told is None:
        held = ", ".join(head.text for head in sheet.heads)[:200]
        named = f" of {slice.field or file!r}" if slice.field or file else ""
        return f"it is not known what the rows{named} are: none of their columns is known ({held})"
    needed = _NEEDED.get(told, ())
    if needed and sheet.find(needed) is None:
        return f"expected a column called {' or '.join(needed)} in {told.value}"
    if told is not Kind.METRICS and sheet.find((*TIMES, "scheduled_date")) is None:
        return f"no column of dates: expected one called {', '.join(TIMES)}"
    return told


def _called(name: str) -> Kind | None:
    plain = re.sub(r"[^a-z]", "", name.rpartition(".")[0].lower() or name.lower())
    plain = re.sub(r"^(healthautoexport|apple|health(?=auto))+", "", plain)
    return next((kind for kind, starts in _CALLED.items() if plain.startswith(starts)), None)


def _by_header(sheet: Sheet) -> Kind | None:
    names = {head.name for head in sheet.heads}
    if sheet.find(TIMES) is None:
        return Kind.METRICS  # which says what was expected
    if "severity" in names or names & {"symptom", "symptom_name"}:
        return Kind.SYMPTOMS
    if "valence" in names or "valence_classification" in names or {"labels", "associations"} <= names:
        return Kind.STATE_OF_MIND
    if "classification" in names and names & {"average_heart_rate", "avg_heart_rate", "sampling_frequency"}:
        return Kind.ECG
    if names & {"dosage", "scheduled_date", "medication"}:
        return Kind.MEDICATIONS
    if names & {"is_cycle_start", "cycle_start", "menstrual_flow"} and names & {"name", "type"}:
        return Kind.CYCLE
    if names & {"threshold", "heart_notification"}:
        return Kind.NOTIFICATIONS
    if sheet.find(VALUES) is not None:
        return Kind.METRICS
    if sheet.find(_PLAIN_ACTIVITIES) is not None or (sheet.find(ACTIVITIES) is not None and names & _OF_EFFORT):
        return Kind.WORKOUTS
    return Kind.METRICS if _has_metrics(sheet) else None


def _has_metrics(sheet: Sheet) -> bool:
    """Whether a column says a unit, or is called as a known metric."""
    others = [head for head in sheet.heads if head.name and head.name not in (*TIMES, *ENDS, *SOURCES)]
    return not others or any(head.unit or head.part or catalogue.find(head.name) for head in others)
