"""Exports in every form and coding, at every address that takes them."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from .exports import conserved, elements, minutes, shapes, tally
from .service import Phone, Service

AT = "2026-02-03T06:15:00Z"
ADDRESSES = ("/api/v1/ingest", "/v1/ingest", "/api/v1/sync", "/api/data", "/api/v1/ingest-async")
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "x-gzip": lambda body: gzip.compress(body[:1000]) + gzip.compress(body[1000:]),
    "deflate": zlib.compress,
    "br": lambda body: pa.compress(body, "brotli", asbytes=True),
    "zstd": lambda body: pa.compress(body, "zstd", asbytes=True),
}
RATES = ",".join(f"Heart Rate [{name}] (count/min)" for name in ("Min", "Max", "Avg"))
WIDE = f"""Date,{RATES},Step Count (count)
{AT},60,70,65.5,40
2026-02-03 07:16:00 +0100,,,,12
"""
LONG = f"name,date,qty,units,source\nflights_climbed,{AT},2,count,Watch\nflights_climbed,{AT},3,count,Phone\n"
FORM = (
    '--B\r\nContent-Disposition: form-data; name="file"; filename="HealthMetrics.csv"\r\n'
    f"Content-Type: text/csv\r\n\r\n{WIDE}\r\n"
    '--B\r\nContent-Disposition: form-data; name="other"; filename="More.csv"\r\n'
    f"Content-Type: text/csv\r\n\r\n{LONG}\r\n"
    "--B--\r\n"
)
DOMAINS: dict[str, tuple[Any, dict[str, float | None]]] = {
    "reproductive-health": (
        {
            "menstrual_data": [{"recorded_at": AT, "menstrual_flow": "light", "cycle_day": 2}],
            "fertility_data": [{"recorded_at": AT, "basal_body_temperature": 36.5, "lh_level": 4.2}],
        },
        {"cycle_tracking": None, "basal_body_temperature": 36.5, "luteinizing_hormone": 4.2},
    ),
    "environmental": (
        {"environmental_metrics": [{"recorded_at": AT, "uv_index": 5, "time_in_daylight_minutes": 40}]},
        {"uv_exposure": 5, "time_in_daylight": 40},
    ),
    "audio-exposure": (
        {"audio_exposure_metrics": [{"recorded_at": AT, "environmental_audio_exposure_db": 71}]},
        {"environmental_audio_exposure": 71},
    ),
    "safety-events": (
        {"safety_events": [{"recorded_at": AT, "event_type": "fall_detected", "severity_level": 3}]},
        {"safety_events": None},
    ),
    "temperature": (
        {"temperature_metrics": [{"recorded_at": AT, "body_temperature": 38.5, "water_temperature": 21}]},
        {"body_temperature": 38.5, "underwater_temperature": 21},
    ),
    "hygiene": (
        {"hygiene_events": [{"recorded_at": AT, "event_type": "handwashing", "duration_seconds": 25}]},
        {"handwashing": 25},
    ),
    "body-measurements": (
        {"body_measurements": [{"recorded_at": AT, "body_weight_kg": 77.5, "waist_circumference_cm": 82}]},
        {"weight_body_mass": 77.5, "waist_circumference": 82},
    ),
    "respiratory": (
        {"respiratory_metrics": [{"recorded_at": AT, "respiratory_rate": 14, "oxygen_saturation": 97}]},
        {"respiratory_rate": 14, "blood_oxygen_saturation": 97},
    ),
    "mindfulness": (
        {"mindfulness_metrics": [{"recorded_at": AT, "session_duration_minutes": 10, "meditation_type": "breath"}]},
        {"mindful_minutes": 10},
    ),
    "mental-health": (
        {"mental_health_metrics": [{"recorded_at": AT, "state_of_mind_valence": 0.3, "mood_rating": 5}]},
        {"state_of_mind": 0.3, "mood_rating": 5},
    ),
    "nutrition": (
        {"nutrition_metrics": [{"recorded_at": AT, "dietary_protein": 30, "dietary_sodium": 900}]},
        {"protein": 30, "sodium": 900},
    ),
    "symptoms": (
        {"symptoms": [{"recorded_at": AT, "symptom_type": "headache", "severity": "mild"}]},
        {"symptoms": None},
    ),
    "blood-glucose": (
        {"blood_glucose_metrics": [{"recorded_at": AT, "blood_glucose_mg_dl": 104}], "metabolic_metrics": []},
        {"blood_glucose": 104},
    ),
    "metabolic": (
        {"metabolic_metrics": [{"recorded_at": AT, "blood_alcohol_content": 0.02, "insulin_delivery_units": 3}]},
        {"blood_alcohol_content": 0.02, "insulin_delivery": 3},
    ),
}
"""For each domain a body, and the values that have to be found by metric."""
INTERNAL = {
    "HeartRate": ({"heart_rate": 61}, "heart_rate", 61),
    "BloodPressure": ({"systolic": 121, "diastolic": 79}, "blood_pressure", None),
    "Sleep": ({"sleep_start": AT, "duration_minutes": 400}, "sleep_analysis", 400),
    "Activity": ({"step_count": 800}, "step_count", 800),
    "BodyMeasurement": ({"body_weight_kg": 70.5}, "weight_body_mass", 70.5),
    "Temperature": ({"body_temperature": 36.6}, "body_temperature", 36.6),
    "BloodGlucose": ({"blood_glucose_mg_dl": 99}, "blood_glucose", 99),
    "Metabolic": ({"blood_alcohol_content": 0.02}, "blood_alcohol_content", 0.02),
    "Respiratory": ({"respiratory_rate": 15}, "respiratory_rate", 15),
    "Nutrition": ({"dietary_protein": 22}, "protein", 22),
    "Environmental": ({"uv_index": 3}, "uv_exposure", 3),
    "AudioExposure": ({"headphone_audio_exposure_db": 66}, "headphone_audio_exposure", 66),
    "SafetyEvent": ({"event_type": "fall_detected"}, "safety_events", None),
    "Mindfulness": ({"session_duration_minutes": 12}, "mindful_minutes", 12),
    "MentalHealth": ({"state_of_mind_valence": -0.2}, "state_of_mind", -0.2),
    "Menstrual": ({"menstrual_flow": "light"}, "cycle_tracking", None),
    "Fertility": ({"basal_body_temperature": 36.4}, "basal_body_temperature", 36.4),
    "Symptom": ({"symptom_type": "nausea"}, "symptoms", None),
    "Hygiene": ({"event_type": "toothbrushing", "duration_seconds": 120}, "toothbrushing", 120),
}


@pytest.mark.parametrize("path", ADDRESSES)
def test_every_address_takes_an_export(on_sqlite: Service, path: str) -> None:
    phone, export = on_sqlite.phone(), shapes()
    told = phone.send(export, path)
    assert conserved(told)["received"] == len(list(elements(export)))
    assert told["types"].keys() == phone.metrics().keys()


@pytest.mark.parametrize("coding", CODINGS)
def test_every_coding_of_a_body_is_read(on_sqlite: Service, coding: str) -> None:
    phone, body = on_sqlite.phone(), json.dumps(minutes(0, 200)).encode()
    coded = CODINGS[coding](body)
    told = phone.send(coded, content_encoding=coding)
    assert conserved(told)["stored"] == 200
    assert [row["value"] for row in phone.points("step_count")] == list(range(200))
    assert phone.call("GET", f"/api/v1/ingest/{told['id']}/raw").content == coded


def test_a_coding_that_cannot_be_read_is_refused(on_sqlite: Service) -> None:
    phone = on_sqlite.phone()
    told = phone.post("/api/v1/ingest", minutes(0, 1), 415, content_encoding="lzma")
    assert told["error"] == "unsupported_media_type"
    assert phone.get("/api/v1/ingests")["data"] == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(WIDE, "text/csv", id="wide"),
        pytest.param(FORM, "multipart/form-data; boundary=B", id="multipart"),
    ],
)
def test_csv_is_read_bare_and_in_a_form(service: Service, body: str, content_type: str) -> None:
    phone = service.phone()
    told = phone.send(body.encode(), content_type=content_type)
    counts = conserved(told)
    more = {"flights_climbed": 2} if "boundary" in content_type else {}
    assert {name: each["stored"] for name, each in told["types"].items()} == {"heart_rate": 1, "step_count": 2} | more
    assert counts["quarantined"] == 0
    [rate] = phone.points("heart_rate")
    assert (rate["minimum"], rate["value"], rate["maximum"], rate["time"]) == (60, 65.5, 70, AT)
    assert [row["value"] for row in phone.points("step_count")] == [40, 12]
    if more:
        assert [(row["source"], row["value"]) for row in phone.points("flights_climbed")] == [
            ("Phone", 3),
            ("Watch", 2),
        ]


@pytest.mark.parametrize("unwrapped", [False, True])
def test_wrapped_or_not_the_points_are_the_same(service: Service, unwrapped: bool) -> None:
    phone, export = service.phone(), shapes()
    told = phone.send(export["data"] if unwrapped else export)
    assert conserved(told)["received"] == len(list(elements(export)))


def test_metrics_as_a_map_of_identifiers(service: Service) -> None:
    phone = service.phone()
    points = [{"date": "2026-02-03 07:15:00 +0100", "qty": 70.5, "units": "kg"}]
    told = phone.send({"data": {"metrics": {"HKQuantityTypeIdentifierBodyMass": points}}})
    assert conserved(told)["stored"] == 1
    assert [row["value"] for row in phone.points("weight_body_mass")] == [70.5]


def test_l7_every_type_of_the_internal_form_is_read_back(service: Service) -> None:
    phone = service.phone()
    records = [{"type": name, "recorded_at": AT, **columns} for name, (columns, _, _) in INTERNAL.items()]
    workout = {"id": "W-1", "workout_type": "Running", "started_at": AT, "ended_at": "2026-02-03T06:45:00Z"}
    told = phone.send({"data": {"metrics": records, "workouts": [workout]}})
    assert (conserved(told)["quarantined"], told["received"]) == (0, told["stored"])
    stored = phone.stored()
    for record, (_, metric, value) in zip(records, INTERNAL.values(), strict=True):
        [row] = [row for row in stored[metric] if row["original"] == record]
        assert row["value"] == (pytest.approx(value) if value is not None else None)
        assert row["time"] == AT
    assert len(stored["workouts"]) == 1


@pytest.mark.parametrize("domain", DOMAINS)
def test_l6_every_domain_is_stored_and_read_back(on_sqlite: Service, domain: str) -> None:
    phone, (body, values) = on_sqlite.phone(), DOMAINS[domain]
    told = phone.send(body, f"/api/v1/ingest/{domain}")
    assert (conserved(told)["stored"], told["quarantined"]) == (len(values), 0)
    stored = phone.stored()
    assert {name: [row["value"] for row in rows] for name, rows in stored.items()} == {
        name: [value] for name, value in values.items()
    }
    sent = tally(record for records in body.values() for record in records)
    assert tally(row["original"] for rows in stored.values() for row in rows).keys() == sent.keys()
    read = phone.get(f"/api/v1/data/{domain}")
    assert read["total_count"] == len(values)
    again = phone.send({"data": next(iter(body.values()))}, f"/api/v1/ingest/{domain}")
    assert conserved(again)["unchanged"] == again["received"] > 0


def test_a_domain_that_there_is_not_is_said_to_be_none(on_sqlite: Service) -> None:
    told = on_sqlite.phone().post("/api/v1/ingest/auras", {"data": []}, 404)
    assert "nutrition" in told["message"]


def test_what_the_app_says_of_a_run_is_kept(phone: Phone) -> None:
    headers = {"automation_name": "Daily", "automation_period": "Since Last Sync", "session_id": "A-1"}
    told = phone.send(minutes(0, 1), **headers)
    [listed] = phone.get("/api/v1/ingests")["data"]
    assert listed["id"] == told["id"]
    assert listed["headers"] == {name.replace("_", "-"): value for name, value in headers.items()}
    assert listed["counts"] == conserved(told)
