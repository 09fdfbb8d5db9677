"""Prometheus metrics of the health service; every label is of a closed set, so their number is bounded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

from prometheus_client import Counter, Gauge, Histogram

from ...observe.metrics import registry
from .acceptance import Counts
from .export.catalogue import METRICS

if TYPE_CHECKING:
    from ...platform.database import Database

OTHER = "other"
"""The label of everything that is outside the set of a label."""
LARGE = 10_000_000
"""Bodies of more bytes are large."""
_SHORT = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1e3, 1e4, 1e5, 1e6, 1e7, 5e7, 1e8, 2e8)


def _counter(name: str, help: str, *labels: str) -> Counter:
    return Counter(f"health_export_{name}", help, labels, registry=registry)


def _gauge(name: str, help: str, *labels: str) -> Gauge:
    return Gauge(f"health_export_{name}", help, labels, registry=registry)


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(f"health_export_{name}", help, labels, registry=registry, buckets=buckets)


_requests = _counter("http_requests_total", "Requests answered.", "method", "endpoint", "status_code")
_request_seconds = _histogram(
    "http_request_duration_seconds", "From a request to the end of its answer.", _SHORT, "method", "endpoint"
)
_request_bytes = _histogram("request_size_bytes", "Bytes of bodies as they arrived.", _SIZES)
_large = _counter("large_request_total", "Requests with more than 10 MB.")
_processing = _histogram("processing_duration_seconds", "Time for a request by its size.", _LONG, "size_bucket")
_volume = _counter("data_volume_bytes_total", "Bytes moved.", "data_type", "operation")
_errors = _counter("errors_total", "Requests and jobs that failed.", "error_type", "endpoint", "severity")
_ingests = _counter("ingest_requests_total", "Requests that brought data.")
_ingest_seconds = _histogram("ingest_duration_seconds", "Time until data was answered for.", _LONG, "status")
_points = _counter("ingest_metrics_processed_total", "Points by what became of them.", "metric_type", "status")
_stored = _counter("health_metrics_stored_total", "Points written: new ones and new values.", "metric_type")
_duplicates = _counter("duplicates_removed_total", "Points that were there already with the same value.")
_quarantined = _counter("quarantined_points_total", "Points kept aside because they cannot be read.", "metric_type")
_validation = _counter(
    "validation_errors_total", "What was wrong with data.", "metric_type", "error_category", "endpoint"
)
_unknown = _counter("ios_unknown_metric_types_total", "Points of types that the catalogue does not know; kept.")
_lost = _counter("ios_metric_data_loss_total", "Points neither stored nor quarantined. Anything but 0 is a defect.")
_batch_seconds = _histogram("batch_processing_duration_seconds", "Time to store a part.", _LONG, "batch_size_bucket")
_busy = _gauge("db_connections_active", "Connections to the database in use.")
_idle = _gauge("db_connections_idle", "Connections to the database that wait to be used.")
_most = _gauge("db_connections_max", "How many connections to the database there may be.")
_wait = _histogram("db_connection_wait_time_seconds", "Time until a connection was had.", _SHORT, "operation")
_attempts = _counter("auth_attempts_total", "Requests by what their key was found to be.", "result", "key_type")
_limited = _counter("rate_limited_requests_total", "Requests answered 429.", "endpoint")
_exhausted = _counter("rate_limit_exhaustion_total", "Requests beyond a limit.", "limit_type")
_security = _counter("security_events_total", "What somebody should look at.", "event")
_active = _gauge("active_users_24h", "Users whose data arrived in the last 24 hours.")
_users = _gauge("users", "Users with a key that works.")
_last_ingest = _gauge("last_ingest_timestamp_seconds", "When data arrived last.")
_unfinished = _gauge("unfinished_ingests", "Ingests that are accepted and not yet processed.")
_oldest = _gauge("unfinished_ingest_age_seconds", "Age of the oldest of them.")
_open = _gauge("quarantine_open_points", "Points in quarantine that no later attempt resolved.")
_found = _gauge("quality_users", "Users with a finding of the last look at the data.", "finding")
_worst = _gauge("quality_worst_score", "The lowest completeness score of a user, 0 to 100.")
_runs = _counter("job_runs_total", "Runs of jobs.", "task", "result")  # Prometheus calls by `job` what it asks.
_run_seconds = _histogram("job_duration_seconds", "Time of a run of a job.", _LONG, "task")
_succeeded = _gauge("job_last_success_timestamp_seconds", "When a job last succeeded on this replica.", "task")

_IN_WORKOUTS = (
    "route", "heart_rate_recovery", "basal_energy", "walking_and_running_distance", "swim_distance",
    "swim_stroke", "cycling_cadence", "cycling_power", "cycling_speed", "step_cadence",
)  # fmt: skip
TYPES = frozenset({*METRICS, "workouts", "ecg_voltage", *(f"workout_{name}" for name in (*METRICS, *_IN_WORKOUTS))})
"""The metric types that may have a label of their own; others are counted together as ``other``."""


def _label(type: str) -> str:
    return type if type in TYPES else OTHER


def _of(value: str, known: Collection[str]) -> str:
    return value if value in known else OTHER


_STATUSES = ("stored", "updated", "unchanged", "quarantined")


def stored(type: str, counts: Counts) -> None:
    """Count what became of points of ``type``, once they are committed."""
    label = _label(type)
    for status in _STATUSES:
        if number := getattr(counts, status):
            _points.labels(label, status).inc(number)
    if written := counts.stored + counts.updated:
        _stored.labels(label).inc(written)
    _duplicates.inc(counts.unchanged)
    if counts.quarantined:
        _quarantined.labels(label).inc(counts.quarantined)
        _validation.labels(label, "unreadable", "ingest").inc(counts.quarantined)
    if label == OTHER:
        _unknown.inc(counts.received)
    kept = counts.stored + counts.updated + counts.unchanged + counts.quarantined
    _lost.inc(max(0, counts.received - kept))


def part(types: Mapping[str, Counts], seconds: float, flagged: Mapping[str, int] | None = None) -> None:
    """Count a part that is committed, how long that took, and how many points of each type have warnings."""
    for type, number in (flagged or {}).items():
        suspicious(type, number)
    size = 0
    for type, counts in types.items():
        stored(type, counts)
        size += counts.received
    bucket = "small" if size <= 10 else "medium" if size <= 100 else "large" if size <= 1000 else "xlarge"
    _batch_seconds.labels(bucket).observe(seconds)


def lost(types: Mapping[str, Counts]) -> None:
    """Count the points of a part that could not be stored at all; its raw body can be processed again."""
    for counts in types.values():
        _lost.inc(counts.received)


def suspicious(type: str, number: int = 1) -> None:
    """Count points that are stored although their values are outside of what is likely."""
    _validation.labels(_label(type), "suspicious_value", "ingest").inc(number)


RESULTS = frozenset(
    {"success", "missing", "malformed", "unknown", "expired", "revoked", "forbidden", "limited", "unavailable"}
)
KEY_TYPES = frozenset({"hea", "none"})


def authenticated(result: str, key_type: str = "hea") -> None:
    """Count a request by what its key was found to be: one of RESULTS."""
    result = _of(result, RESULTS)
    _attempts.labels(result, _of(key_type, KEY_TYPES)).inc()
    if result not in _HARMLESS:
        security(f"key_{result}")


_HARMLESS = frozenset({"success", "missing", "unavailable"})
EVENTS = frozenset({f"key_{result}" for result in (RESULTS | {OTHER}) - _HARMLESS} | {"limit_failures"})


def security(event: str) -> None:
    """Count what somebody should look at: one of EVENTS."""
    _security.labels(_of(event, EVENTS)).inc()


LIMITS = frozenset({"ingest", "read", "export", "admin", "by_address", "failures", "accepting"})


def refused(limit: str) -> None:
    """Count a request that was refused because a limit, one of LIMITS, is used up."""
    limit = _of(limit, LIMITS)
    _exhausted.labels(limit).inc()
    if limit == "failures":
        security("limit_failures")


def waited(seconds: float, operation: str = "query") -> None:
    """Count how long a connection to the database was waited for."""
    _wait.labels(_of(operation, ("query", "write"))).observe(seconds)


def volume(data_type: Literal["raw"], operation: Literal["stored", "read"], size: int) -> None:
    """Count bytes that were written to, or read from, the raw store."""
    _volume.labels(data_type, operation).inc(size)


def watch(database: Database) -> None:
    """Show the connections of ``database`` from now on."""
    pool: Any = database.pool.pool
    _busy.set_function(pool.checkedout)
    _idle.set_function(pool.checkedin)
    _most.set(pool.size() + max(0, pool._max_overflow))


def failed(error_type: str, endpoint: str, severity: Literal["warning", "error"] = "error") -> None:
    """Count a failure outside of a request; all three of a closed set, such as names of classes and jobs."""
    _errors.labels(error_type, endpoint, severity).inc()


def expect(job: str) -> None:
    """Show the runs of a job from the beginning, so that its first failure is seen as one."""
    for result in ("success", "failure"):
        _runs.labels(job, result)


def note_run(job: str, result: str, seconds: float) -> None:
    """Count the run of a job; ``elsewhere`` is one that another replica did."""
    _runs.labels(job, result).inc()
    if result == "failure":
        failed("job", job)
    if result != "elsewhere":
        _run_seconds.labels(job).observe(seconds)
    if result == "success":
        _succeeded.labels(job).set_to_current_time()


def state(*, users: int, active: int, last_ingest: float, unfinished: int, oldest: float, quarantined: int) -> None:
    """Show what the tables hold: counts, the time of the last ingest, and the age of the oldest unfinished one."""
    _users.set(users)
    _active.set(active)
    _last_ingest.set(last_ingest)
    _unfinished.set(unfinished)
    _oldest.set(oldest)
    _open.set(quarantined)


def quality(findings: Mapping[str, int], worst: float) -> None:
    """Show how many users have each finding, of a closed set, and the lowest score of all."""
    for finding, number in findings.items():
        _found.labels(finding).set(number)
    _worst.set(worst)


_REASONS = {
    400: "validation_error", 401: "authentication", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    408: "timeout", 409: "conflict", 411: "length_required", 413: "too_large", 415: "unsupported_media_type",
    422: "validation_error", 429: "rate_limit_exceeded", 500: "internal_error", 503: "unavailable",
    507: "storage_full",
}  # fmt: skip
_INGEST = frozenset({"/v1/ingest", "/api/v1/sync", "/api/data", "/api/v1/ingest-async"})


def request(method: str, endpoint: str, status: int, seconds: float, *, received: int = 0, sent: int = 0) -> None:
    """Count a request that was answered; ``endpoint`` is the template of its route."""
    _requests.labels(method, endpoint, status).inc()
    _request_seconds.labels(method, endpoint).observe(seconds)
    _volume.labels("request", "received").inc(received)
    _volume.labels("answer", "sent").inc(sent)
    if endpoint.startswith("/api/v1/export/"):
        _volume.labels("export", "read").inc(sent)
    if received:
        _request_bytes.observe(received)
        bucket = "small" if received <= 1e4 else "medium" if received <= 1e6 else "large"
        _processing.labels(bucket if received <= LARGE else "xlarge").observe(seconds)
    if received > LARGE:
        _large.inc()
    if method == "POST" and _is_ingest(endpoint):
        _ingests.inc()
        outcome = {200: "processed", 201: "processed", 202: "accepted"}.get(status, "refused")
        _ingest_seconds.labels(outcome if status != 400 else "unreadable").observe(seconds)
    if status >= 400:
        severity = "error" if status >= 500 else "warning"
        _errors.labels(_REASONS.get(status, OTHER), endpoint, severity).inc()
        if status in (400, 422):
            _validation.labels("none", "request", endpoint).inc()
        elif status == 429:
            _limited.labels(endpoint).inc()


def _is_ingest(endpoint: str) -> bool:
    """Whether data is posted there: the route, its aliases, and those of the domains; not jobs about an ingest."""
    under = endpoint.removeprefix("/api/v1/ingest")
    return endpoint in _INGEST or (under != endpoint and under.count("/") <= 1 and "{id" not in under)


def _begin() -> None:
    """Show as 0 what an alert waits for: Prometheus sees no increase in what was not there before."""
    for limit in LIMITS:
        _exhausted.labels(limit)
    for event in EVENTS:
        _security.labels(event)
    for result in RESULTS:
        _attempts.labels(result, "none" if result == "missing" else "hea")
    for endpoint in ("/api/v1/ingest", *_INGEST):
        _limited.labels(endpoint)


_begin()
