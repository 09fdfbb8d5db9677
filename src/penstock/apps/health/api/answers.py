"""What an ingest is answered with: one answer that serves the clients of every shape there has been."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from ..acceptance import Accepted, Counts, Outcome

Status = Literal["processed", "accepted_for_processing", "partial_success", "error"]


class Fault(msgspec.Struct, kw_only=True):
    """A point that could not be stored, as ``data.errors`` says it."""

    metric_type: str
    error_message: str
    index: int | None


class ItemError(msgspec.Struct, kw_only=True):
    """A point that could not be stored, as ``errors`` says it."""

    item_type: Literal["metric", "workout"]
    item_index: int | None
    error: str
    details: dict[str, Any]


class ItemWarning(msgspec.Struct, kw_only=True):
    """A point that is stored although it looks wrong."""

    item_type: Literal["metric", "workout"]
    item_index: int | None
    warning: str
    details: dict[str, Any]


class Kept(msgspec.Struct, kw_only=True):
    """A point in quarantine: where it was, and why."""

    id: int
    type: str
    index: int | None
    path: str
    reason: str


class Processed(msgspec.Struct, kw_only=True):
    """How many points are in the tables, and how many of them are workouts."""

    metrics: int
    workouts: int


class Ingested(msgspec.Struct, kw_only=True):
    """What became of a body, in ``data``."""

    success: bool
    processed_count: int
    failed_count: int
    processing_time_ms: int
    errors: list[Fault]
    processing_status: Status
    raw_ingestion_id: str


class Answer(msgspec.Struct, kw_only=True):
    """What became of a body: ``received`` is the sum of ``stored``, ``updated``, ``unchanged`` and ``quarantined``."""

    success: bool
    data: Ingested
    error: str | None
    timestamp: datetime
    id: str
    status_url: str
    state: Literal["accepted", "processing", "processed", "failed"]
    attempt: int
    received: int
    stored: int
    updated: int
    unchanged: int
    quarantined: int
    types: dict[str, Counts]
    quarantined_points: list[Kept]
    duplicate: bool
    processed: Processed
    errors: list[ItemError]
    warnings: list[ItemWarning]
    processing_time_ms: int
    received_at: datetime | None
    completed_at: datetime | None
    bytes: int
    sha256: str
    timezone: str | None
    message: str
    payload_id: str
    metrics_processed: int
    metrics_skipped: int
    partial_duplicate: bool


def waiting(accepted: Accepted) -> Outcome:
    """Return the outcome of what is accepted, and nothing more as yet."""
    return Outcome(
        id=accepted.id,
        state="accepted",
        received_at=accepted.received_at,
        bytes=accepted.bytes,
        sha256=accepted.sha256,
        attempt=accepted.attempt,
        timezone=accepted.headers.get("timezone"),
    )


def status_url(ingest: str) -> str:
    """Return where to ask how far an ingest is."""
    return f"/api/v1/ingest/{ingest}"


def answer(outcome: Outcome, took: float, *, asked: bool = False) -> Answer:
    """Return what is said of ``outcome`` after ``took`` seconds.

    ``asked``: by a later question, which succeeds whatever it tells; else as the answer to the body itself.
    """
    counts, milliseconds = outcome.counts, round(took * 1000)
    failed = outcome.state == "failed"
    in_tables = counts.stored + counts.updated + counts.unchanged
    data = Ingested(
        success=not failed,
        processed_count=in_tables,
        failed_count=counts.quarantined,
        processing_time_ms=milliseconds,
        errors=[Fault(metric_type=q.type, error_message=q.reason, index=q.index) for q in outcome.quarantined],
        processing_status=_status(outcome),
        raw_ingestion_id=outcome.id,
    )
    return Answer(
        success=asked or not failed,
        data=data,
        error="unreadable_body" if failed and not asked else None,
        timestamp=datetime.now(UTC),
        id=outcome.id,
        status_url=status_url(outcome.id),
        state=outcome.state,
        attempt=outcome.attempt,
        received=counts.received,
        stored=counts.stored,
        updated=counts.updated,
        unchanged=counts.unchanged,
        quarantined=counts.quarantined,
        types=outcome.types,
        quarantined_points=[
            Kept(id=q.id, type=q.type, index=q.index, path=q.path, reason=q.reason) for q in outcome.quarantined
        ],
        duplicate=outcome.duplicate,
        processed=_processed(outcome),
        errors=[_error(q.type, q.index, q.reason, q.path) for q in outcome.quarantined],
        warnings=[_warning(warning) for warning in outcome.warnings],
        processing_time_ms=milliseconds,
        received_at=outcome.received_at,
        completed_at=outcome.completed_at,
        bytes=outcome.bytes,
        sha256=outcome.sha256,
        timezone=outcome.timezone,
        message=_message(outcome),
        payload_id=outcome.id,
        metrics_processed=counts.stored + counts.updated,
        metrics_skipped=counts.unchanged + counts.quarantined,
        partial_duplicate=bool(counts.unchanged) and not outcome.duplicate,
    )


def _status(outcome: Outcome) -> Status:
    counts = outcome.counts
    if outcome.state in ("accepted", "processing"):
        return "accepted_for_processing"
    if outcome.state == "failed":
        return "error"
    return "partial_success" if counts.quarantined else "processed"


def _message(outcome: Outcome) -> str:
    counts = outcome.counts
    if outcome.state == "failed":
        return f"nothing of the body can be read: {outcome.error}; it is kept as it came and can be processed again"
    if outcome.state == "accepted":
        return "the body is kept and will be processed; ask status_url what became of it"
    told = (
        f"{counts.received} points received: {counts.stored} stored, {counts.updated} updated, "
        f"{counts.unchanged} unchanged, {counts.quarantined} quarantined"
    )
    return f"{told} so far" if outcome.state == "processing" else told


def _processed(outcome: Outcome) -> Processed:
    """Workouts, and everything that is not a part of one."""
    found = Processed(metrics=0, workouts=0)
    for name, counts in outcome.types.items():
        number = counts.stored + counts.updated + counts.unchanged
        if name == "workouts":
            found.workouts += number
        elif not name.startswith("workout_"):
            found.metrics += number
    return found


def _item(type: str) -> Literal["metric", "workout"]:
    return "workout" if type == "workouts" or type.startswith("workout_") else "metric"


def _error(type: str, index: int | None, reason: str, path: str) -> ItemError:
    details = {"metric_type": type, "message": reason, "path": path}
    return ItemError(item_type=_item(type), item_index=index, error=reason, details=details)


def _warning(warning: dict[str, Any]) -> ItemWarning:
    type = str(warning.get("type", ""))
    details = {"metric_type": type} | {
        name: value for name, value in warning.items() if name not in ("type", "index", "warning")
    }
    name = str(warning.get("warning", "suspicious_value"))
    return ItemWarning(item_type=_item(type), item_index=warning.get("index"), warning=name, details=details)
