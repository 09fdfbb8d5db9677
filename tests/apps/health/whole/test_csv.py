"""CSV as the app uploads it: files of all kinds in a form, and times that say no offset."""

from __future__ import annotations

from typing import Any

import pytest

from .exports import conserved
from .service import Phone, Service

STEPS = "Date/Time,Step Count (count)\n2026-07-11 00:00:00,10448\n"
NEW_YORK = ("2026-07-11T04:00:00Z", "America/New_York")
ABOUT = "/api/v1/user/characteristics"


def form(*parts: tuple[str, str, str]) -> bytes:
    """Return a multipart body of fields, each with the name of its file, if it is one, and its text."""
    found = ""
    for field, file, text in parts:
        named = f'; filename="{file}"' if file else ""
        found += f'--B\r\nContent-Disposition: form-data; name="{field}"{named}\r\n\r\n{text}\r\n'
    return f"{found}--B--\r\n".encode()


def upload(phone: Phone, *parts: tuple[str, str, str], query: str = "", **headers: str) -> Any:
    headers = {"content_type": "multipart/form-data; boundary=B", **headers}
    return phone.send(form(*parts), f"/api/v1/ingest{query}", **headers)


def day_of(phone: Phone, told: Any) -> tuple[str, str | None]:
    """Return when the steps are, and which zone the answer says."""
    assert phone.get(told["status_url"])["timezone"] == told["timezone"]
    return phone.points("step_count")[-1]["time"], told["timezone"]


def test_without_a_zone_it_is_utc_and_each_point_says_so(phone: Phone) -> None:
    told = phone.send(STEPS.encode(), content_type="text/csv")
    assert day_of(phone, told) == ("2026-07-11T00:00:00Z", None)
    assert [warning["warning"] for warning in told["warnings"]] == ["assumed_utc"]


@pytest.mark.parametrize("said", ["parameter", "header", "field"])
def test_a_request_says_the_zone(phone: Phone, said: str) -> None:
    steps = ("HealthData", "HealthMetrics.csv", STEPS)
    zone = NEW_YORK[1]
    if said == "parameter":
        told = upload(phone, steps, query=f"?timezone={zone}")
    elif said == "header":
        told = upload(phone, steps, timezone=zone)
    else:
        told = upload(phone, steps, ("timezone", "", zone))
    assert (day_of(phone, told), told["warnings"]) == (NEW_YORK, [])


def test_a_user_says_the_zone_once(on_sqlite: Service) -> None:
    phone = on_sqlite.phone()
    body = b'{"timezone": "Asia/Kolkata"}'
    phone.post(ABOUT, {}, 200)
    assert (
        phone.call("PATCH", ABOUT, body.replace(b"Kolkata", b"Atlantis"), content_type="application/json").status == 400
    )
    assert phone.call("PATCH", ABOUT, body, content_type="application/json").status == 200
    told = upload(phone, ("HealthData", "HealthMetrics.csv", STEPS))
    assert day_of(phone, told) == ("2026-07-10T18:30:00Z", "Asia/Kolkata")
    assert day_of(phone, upload(phone, ("HealthData", "x.csv", STEPS), timezone=NEW_YORK[1])) == NEW_YORK


def test_a_zone_that_is_not_known_is_refused(on_sqlite: Service) -> None:
    told = on_sqlite.phone().post("/api/v1/ingest?timezone=Mars/Base", STEPS.encode(), 400, content_type="text/csv")
    assert "Mars/Base" in told["message"]


def test_every_kind_of_file_is_what_it_is_in_json(phone: Phone) -> None:
    at = "2026-08-20 10:00:00 +0200"
    told = upload(
        phone,
        ("HealthData", "HealthMetrics.csv", f"Date/Time,Step Count (count)\n{at},10448\n"),
        ("WorkoutsData", "Workouts.csv", f"Workout Type,Start,End,Duration\nRun,{at},{at},0:10:00\n"),
        ("SymptomsData", "Symptoms.csv", f"Start,End,Name,Severity\n{at},{at},Headache,Moderate\n"),
        ("StateOfMindData", "StateOfMind.csv", f'Start,End,Kind,Labels,Valence\n{at},{at},emotion,"calm, happy",0.4\n'),
        ("ECGData", "ECG.csv", f"Start,End,Classification,Average Heart Rate (count/min)\n{at},{at},Sinus Rhythm,62\n"),
        ("MedicationsData", "Medications.csv", f"Date,Medication,Dosage,Status\n{at},Ibuprofen,2,Taken\n"),
        ("CycleTrackingData", "Cycle.csv", f"Start,End,Name,Value\n{at},{at},Menstrual Flow,Light\n"),
        ("HeartRateNotificationsData", "N.csv", f"Start,End,Threshold\n{at},{at},40\n"),
        ("VisionData", "Vision.csv", f"Date,Left,Right\n{at},20,25\n"),
    )
    assert conserved(told)["stored"] == 8
    assert sorted(phone.metrics()) == [
        *("cycle_tracking", "ecg", "heart_rate_notifications", "medications", "state_of_mind", "step_count"),
        *("symptoms", "workouts"),
    ]
    [mind] = phone.points("state_of_mind")
    assert (mind["value"], mind["fields"]["labels"]) == (0.4, ["calm", "happy"])
    [held] = told["quarantined_points"]
    assert "VisionData" in held["reason"]
