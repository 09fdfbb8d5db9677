from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from penstock.apps.health.acceptance import Accepted, Counts, Outcome, Quarantined, counted
from penstock.apps.health.api import answers

ID = "018cc251-f400-7000-8000-000000000000"
TYPES = {
    "step_count": Counts(received=5, stored=2, updated=1, unchanged=1, quarantined=1),
    "workouts": Counts(received=2, stored=1, unchanged=1),
    "workout_route": Counts(received=10, stored=10),
}


def shown(outcome: Outcome, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(answers.answer(outcome, 0.0123, **more)))
    return found


def partly() -> Outcome:
    held = Quarantined(id=9, type="step_count", index=3, path="data.metrics[0].data[3]", reason="date: missing")
    warning = {"type": "workouts", "index": 0, "warning": "suspicious_value", "message": "too long", "value": 9}
    return Outcome(id=ID, state="processed", counts=counted(TYPES), types=TYPES, quarantined=[held], warnings=[warning])


def test_what_is_received_adds_up_in_all_and_for_each_type() -> None:
    found = shown(partly())
    for counts in (found, *found["types"].values()):
        parts = [counts[name] for name in ("stored", "updated", "unchanged", "quarantined")]
        assert counts["received"] == sum(parts)
    assert found["received"] == 17


def test_one_answer_serves_clients_of_every_shape() -> None:
    found = shown(partly())
    assert (found["success"], found["error"]) == (True, None)
    assert found["data"] == {
        "success": True,
        "processed_count": 16,
        "failed_count": 1,
        "processing_time_ms": 12,
        "errors": [{"metric_type": "step_count", "error_message": "date: missing", "index": 3}],
        "processing_status": "partial_success",
        "raw_ingestion_id": ID,
    }
    assert found["processed"] == {"metrics": 4, "workouts": 2}
    assert found["errors"] == [
        {
            "item_type": "metric",
            "item_index": 3,
            "error": "date: missing",
            "details": {"metric_type": "step_count", "message": "date: missing", "path": "data.metrics[0].data[3]"},
        }
    ]
    assert found["warnings"] == [
        {
            "item_type": "workout",
            "item_index": 0,
            "warning": "suspicious_value",
            "details": {"metric_type": "workouts", "message": "too long", "value": 9},
        }
    ]
    assert found["quarantined_points"] == [
        {"id": 9, "type": "step_count", "index": 3, "path": "data.metrics[0].data[3]", "reason": "date: missing"}
    ]
    assert (found["payload_id"], found["metrics_processed"], found["metrics_skipped"]) == (ID, 14, 3)
    assert (found["duplicate"], found["partial_duplicate"]) == (False, True)
    assert found["status_url"] == f"/api/v1/ingest/{ID}"
    assert datetime.fromisoformat(found["timestamp"]).tzinfo is not None


def test_l4_nothing_in_it_is_a_success() -> None:
    found = shown(Outcome(id=ID, state="processed"))
    assert (found["success"], found["data"]["success"]) == (True, True)
    assert found["data"]["processing_status"] == "processed"
    assert found["message"].startswith("0 points received")


def test_the_same_again_is_a_duplicate() -> None:
    types = {"step_count": Counts(received=5, unchanged=5)}
    found = shown(Outcome(id=ID, state="processed", counts=counted(types), types=types, duplicate=True))
    assert (found["success"], found["duplicate"], found["partial_duplicate"]) == (True, True, False)
    assert (found["metrics_processed"], found["metrics_skipped"]) == (0, 5)


def test_what_is_said_of_success_does_not_contradict_itself() -> None:
    types = {"step_count": Counts(received=5, quarantined=5)}
    found = shown(Outcome(id=ID, state="processed", counts=counted(types), types=types))
    assert (found["success"], found["data"]["success"], found["data"]["processing_status"]) == (
        *(True, True, "partial_success"),
    )


@pytest.mark.parametrize("asked", [False, True])
def test_l15_a_body_that_cannot_be_read_says_why(asked: bool) -> None:
    found = shown(Outcome(id=ID, state="failed", error="line 1: expected a value"), asked=asked)
    assert (found["success"], found["error"]) == ((True, None) if asked else (False, "unreadable_body"))
    assert (found["data"]["success"], found["data"]["processing_status"]) == (False, "error")
    assert "line 1: expected a value" in found["message"]
    assert (found["id"], found["state"]) == (ID, "failed")


def test_l5_what_is_accepted_is_not_said_to_be_stored() -> None:
    accepted = Accepted(
        id=ID, user=1, received_at=datetime(2026, 2, 3, tzinfo=UTC), raw="x", bytes=7, sha256="ab", attempt=2
    )
    found = shown(answers.waiting(accepted))
    assert found["data"]["processing_status"] == "accepted_for_processing"
    assert (found["success"], found["error"], found["state"], found["stored"]) == (True, None, "accepted", 0)
    assert (found["bytes"], found["sha256"], found["attempt"]) == (7, "ab", 2)


def test_half_way_the_counts_are_those_so_far() -> None:
    found = shown(Outcome(id=ID, state="processing", counts=counted(TYPES), types=TYPES))
    assert found["data"]["processing_status"] == "accepted_for_processing"
    assert found["message"].endswith("so far")
