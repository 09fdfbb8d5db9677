"""The domains of health data: in which lists their records come, which metrics belong to them, and their parser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .forms import FORMS, Form
from .internal import add
from .records import Records, section
from .slices import Slice, elements


@dataclass(frozen=True)
class Domain:
    """A name under ``/api/v1/ingest/`` and ``/api/v1/data/``."""

    lists: Mapping[str, str]
    """Key of a list in the body -> form of its records. The first form is that of ``data`` and of a bare list too."""
    metrics: tuple[str, ...]
    """What a reader of the domain gets."""
    ingested: bool = True
    """Whether there is a ``POST /api/v1/ingest/<name>``."""

    @property
    def columns(self) -> dict[str, tuple[str, str]]:
        """Return column -> metric, unit of the column, for those who want wide records back."""
        forms = dict.fromkeys(self.lists.values())
        pairs = {column: named for form in forms for column, named in FORMS[form].measured.items()}
        for form in (FORMS[name] for name in forms):
            if form.event and form.value and form.value[0]:
                pairs[form.value[0]] = (form.event, form.value[1])
        return {column: named for column, named in pairs.items() if named[0] in self.metrics}


def _metrics(form: str) -> tuple[str, ...]:
    return tuple(metric for metric, _ in FORMS[form].measured.values())


DOMAINS: Mapping[str, Domain] = {
    "reproductive-health": Domain(
        {"menstrual_data": "Menstrual", "fertility_data": "Fertility"},
        ("cycle_tracking", "basal_body_temperature", "luteinizing_hormone", "sexual_activity"),
    ),
    "environmental": Domain({"environmental_metrics": "Environmental"}, _metrics("Environmental")),
    "audio-exposure": Domain(
        {"audio_exposure_metrics": "AudioExposure"},
        (*_metrics("AudioExposure"), "environmental_sound_reduction", "audio_exposure"),
    ),
    "safety-events": Domain(
        {"safety_events": "SafetyEvent", "safety_event_metrics": "SafetyEvent"},
        ("safety_events", "number_of_times_fallen"),
    ),
    "temperature": Domain({"temperature_metrics": "Temperature"}, _metrics("Temperature")),
    "hygiene": Domain({"hygiene_events": "Hygiene"}, ("hygiene_events", "handwashing", "toothbrushing")),
    "body-measurements": Domain({"body_measurements": "BodyMeasurement"}, _metrics("BodyMeasurement")),
    "respiratory": Domain({"respiratory_metrics": "Respiratory"}, (*_metrics("Respiratory"), "breathing_disturbances")),
    "mindfulness": Domain({"mindfulness_metrics": "Mindfulness"}, ("mindful_minutes",)),
    "mental-health": Domain({"mental_health_metrics": "MentalHealth"}, ("state_of_mind", *_metrics("MentalHealth"))),
    "nutrition": Domain(
        {"nutrition_metrics": "Nutrition"},
        (
            *_metrics("Nutrition"),
            "chloride",
            "copper",
            "manganese",
            "chromium",
            "iodine",
            "molybdenum",
            "selenium",
            "number_of_alcoholic_beverages",
        ),
    ),
    "symptoms": Domain({"symptoms": "Symptom", "symptom_metrics": "Symptom"}, ("symptoms",)),
    "blood-glucose": Domain(
        {"blood_glucose_metrics": "BloodGlucose", "metabolic_metrics": "Metabolic"},
        ("blood_glucose", "insulin_delivery"),
    ),
    "metabolic": Domain(
        {"metabolic_metrics": "Metabolic", "blood_glucose_metrics": "BloodGlucose"},
        ("blood_glucose", "insulin_delivery", "blood_alcohol_content"),
    ),
    "heart-rate": Domain({"heart_rate_metrics": "HeartRate"}, _metrics("HeartRate"), ingested=False),
    "blood-pressure": Domain(
        {"blood_pressure_metrics": "BloodPressure"},
        ("blood_pressure", "blood_pressure_systolic", "blood_pressure_diastolic"),
        ingested=False,
    ),
    "sleep": Domain({"sleep_metrics": "Sleep"}, ("sleep_analysis",), ingested=False),
    "activity": Domain({"activity_metrics": "Activity"}, (*_metrics("Activity"), "physical_effort"), ingested=False),
    "menstrual": Domain({"menstrual_data": "Menstrual"}, ("cycle_tracking",), ingested=False),
    "fertility": Domain(
        {"fertility_data": "Fertility"},
        ("cycle_tracking", "basal_body_temperature", "luteinizing_hormone", "sexual_activity"),
        ingested=False,
    ),
    "hydration": Domain({"nutrition_metrics": "Nutrition"}, ("dietary_water", "dietary_caffeine"), ingested=False),
}
"""The domains by name. ``workouts`` is none: workouts have a table and routes of their own."""


def form_of(domain: str, key: str, record: Mapping[str, Any]) -> str:
    """Return the form of ``record`` in the list ``key`` of a body of ``domain``.

    Where the key does not say it (``data``, a bare list, an unknown key), it is the form of the domain that knows most
    of its columns; the first one of equals.
    """
    lists = DOMAINS[domain].lists
    if key in lists:
        return lists[key]
    return max(dict.fromkeys(lists.values()), key=lambda name: _known(FORMS[name], record))


def _known(form: Form, record: Mapping[str, Any]) -> int:
    value = form.value[:1] if form.value else ()
    return sum(column in record for column in (*form.measured, *value, *form.renamed, *form.kind))


@section("domain")
def domain(slice: Slice, records: Records) -> None:
    """Make points of the records of a body of ``POST /api/v1/ingest/<domain>``."""
    name = records.accepted.form.partition(":")[2]
    for index, record in enumerate(elements(slice.payload), slice.first):
        known = name in DOMAINS and isinstance(record, dict)
        form = form_of(name, slice.name, record) if known else name
        add(slice, records, index, record, form, FORMS.get(form))
