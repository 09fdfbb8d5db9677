import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, get, post
from litestar.exceptions import HTTPException
from litestar.params import FromPath

from penstock.apps.health import metrics
from penstock.apps.health.acceptance import Counts
from penstock.apps.health.application import Health
from penstock.observe.http import Measured
from penstock.observe.metrics import exposition, registry
from penstock.platform.database import Database


def value(name: str, **labels: object) -> float:
    """What a metric of the service stands at; 0 if it has not moved."""
    return registry.get_sample_value(f"health_export_{name}", {k: str(v) for k, v in labels.items()}) or 0.0


class Moved:
    """How far a metric moves from here on."""

    def __init__(self, name: str, **labels: object) -> None:
        self._name, self._labels = name, labels
        self._before = value(name, **labels)

    @property
    def by(self) -> float:
        return value(self._name, **self._labels) - self._before


@get("/api/v1/metrics/{name:str}")
async def one(name: FromPath[str]) -> dict[str, str]:
    return {"name": name}


@get("/fails")
async def fails() -> None:
    raise ValueError("a fault of ours")


@get("/limited")
async def limited() -> None:
    raise HTTPException(status_code=429)


@post(["/api/v1/ingest", "/api/v1/ingest/hygiene", "/api/v1/ingest/{id:uuid}/reprocess"], status_code=202)
async def ingest(request: Request) -> dict[str, int]:  # type: ignore[type-arg]
    return {"bytes": len(await request.body())}


def measured(app: Any) -> Any:
    return Measured("health", "/*", app, Health().note_request)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = Litestar([one, fails, limited, ingest], logging_config=None, openapi_config=None)
    transport = httpx.ASGITransport(measured(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://health") as client:
        yield client


async def test_requests_are_counted_by_the_template_of_their_route(client: httpx.AsyncClient) -> None:
    endpoint = "/api/v1/metrics/{name}"
    counted = Moved("http_requests_total", method="GET", endpoint=endpoint, status_code=200)
    timed = Moved("http_request_duration_seconds_count", method="GET", endpoint=endpoint)
    sent = Moved("data_volume_bytes_total", data_type="answer", operation="sent")
    for name in ("step_count", "heart_rate"):
        assert (await client.get(f"/api/v1/metrics/{name}")).status_code == 200
    assert (counted.by, timed.by) == (2, 2)
    assert sent.by == len('{"name":"step_count"}') + len('{"name":"heart_rate"}')


async def test_paths_and_methods_that_nobody_serves_make_no_labels(client: httpx.AsyncClient) -> None:
    absent = Moved("http_requests_total", method="GET", endpoint="other", status_code=404)
    odd = Moved("http_requests_total", method="other", endpoint="other", status_code=405)
    for number in range(3):
        await client.get(f"/nothing/{number}")
    await client.request("BREW", "/fails")
    assert (absent.by, odd.by) == (3, 1)
    assert b"/nothing" not in exposition()
    assert b"BREW" not in exposition()


async def test_an_ingest_is_counted_with_its_size_and_its_outcome(client: httpx.AsyncClient) -> None:
    ingests, accepted = Moved("ingest_requests_total"), Moved("ingest_duration_seconds_count", status="accepted")
    sizes, large = Moved("request_size_bytes_sum"), Moved("large_request_total")
    arrived = Moved("data_volume_bytes_total", data_type="request", operation="received")
    processing = Moved("processing_duration_seconds_count", size_bucket="small")
    await client.post("/api/v1/ingest", content=b"x" * 1234)
    await client.post("/api/v1/ingest/hygiene", content=b"x")
    await client.post("/api/v1/ingest/0199b8a8-0000-7000-8000-000000000000/reprocess")
    assert (ingests.by, accepted.by) == (2, 2)
    assert (sizes.by, arrived.by, large.by, processing.by) == (1235, 1235, 0, 2)
    metrics.request("POST", "/api/v1/ingest", 202, 0.5, received=metrics.LARGE + 1)
    assert large.by == 1


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "processed"), (202, "accepted"), (400, "unreadable"), (401, "refused")]
)
def test_ingests_are_told_apart_by_their_answer(status: int, outcome: str) -> None:
    counted = Moved("ingest_duration_seconds_count", status=outcome)
    metrics.request("POST", "/api/data", status, 0.1)
    metrics.request("GET", "/api/v1/ingest", status, 0.1)
    assert counted.by == 1


async def test_errors_are_counted_with_their_kind(client: httpx.AsyncClient) -> None:
    broken = Moved("errors_total", error_type="internal_error", endpoint="/fails", severity="error")
    refused = Moved("errors_total", error_type="rate_limit_exceeded", endpoint="/limited", severity="warning")
    over = Moved("rate_limited_requests_total", endpoint="/limited")
    invalid = Moved("validation_errors_total", metric_type="none", error_category="request", endpoint="/api/data")
    assert (await client.get("/fails")).status_code == 500
    assert (await client.get("/limited")).status_code == 429
    metrics.request("POST", "/api/data", 400, 0.1)
    assert (broken.by, refused.by, over.by, invalid.by) == (1, 1, 1, 1)


async def test_a_request_that_breaks_off_is_counted() -> None:
    async def breaks(scope: object, receive: object, send: object) -> None:
        raise ConnectionResetError

    counted = Moved("http_requests_total", method="GET", endpoint="other", status_code=500)
    with pytest.raises(ConnectionResetError):
        await measured(breaks)({"type": "http", "method": "GET"}, None, None)
    assert counted.by == 1


def test_points_are_counted_by_what_became_of_them() -> None:
    status = {
        name: Moved("ingest_metrics_processed_total", metric_type="step_count", status=name)
        for name in ("stored", "updated", "unchanged", "quarantined")
    }
    written = Moved("health_metrics_stored_total", metric_type="step_count")
    duplicates, lost = Moved("duplicates_removed_total"), Moved("ios_metric_data_loss_total")
    aside = Moved("quarantined_points_total", metric_type="step_count")
    wrong = Moved("validation_errors_total", metric_type="step_count", error_category="unreadable", endpoint="ingest")
    timed = Moved("batch_processing_duration_seconds_count", batch_size_bucket="medium")
    metrics.part({"step_count": Counts(received=20, stored=10, updated=5, unchanged=3, quarantined=2)}, 0.25)
    assert {name: moved.by for name, moved in status.items()} == {
        "stored": 10,
        "updated": 5,
        "unchanged": 3,
        "quarantined": 2,
    }
    assert (written.by, duplicates.by, aside.by, wrong.by, lost.by, timed.by) == (15, 3, 2, 2, 0, 1)


def test_a_point_that_is_not_accounted_for_is_a_loss() -> None:
    lost = Moved("ios_metric_data_loss_total")
    metrics.stored("step_count", Counts(received=20, stored=17, quarantined=2))
    assert lost.by == 1
    metrics.lost({"step_count": Counts(received=5), "heart_rate": Counts(received=2)})
    assert lost.by == 8


def test_unknown_types_share_one_label() -> None:
    unknown, written = (
        Moved("ios_unknown_metric_types_total"),
        Moved("health_metrics_stored_total", metric_type="other"),
    )
    for number in range(50):
        metrics.stored(f"made_up_{number}", Counts(received=2, stored=2))
        metrics.suspicious(f"made_up_{number}")
    assert (unknown.by, written.by) == (100, 100)
    assert b"made_up" not in exposition()


def test_keys_and_limits_are_counted_in_closed_sets() -> None:
    success = Moved("auth_attempts_total", result="success", key_type="hea")
    odd = Moved("auth_attempts_total", result="other", key_type="other")
    revoked, failures = (
        Moved("security_events_total", event="key_revoked"),
        Moved("rate_limit_exhaustion_total", limit_type="failures"),
    )
    look = Moved("security_events_total", event="limit_failures")
    metrics.authenticated("success")
    metrics.authenticated("revoked")
    metrics.authenticated("what the client sent", "and this")
    metrics.refused("failures")
    metrics.refused("hea_0123456789abcdef")
    assert (success.by, odd.by, revoked.by, failures.by, look.by) == (1, 1, 1, 1, 1)
    assert b"hea_0123" not in exposition()
    assert b"what the client" not in exposition()


def test_connections_to_the_database_are_shown(tmp_path: Path) -> None:
    database = Database.of(f"sqlite:///{tmp_path}/a.db", on_wait=metrics.waited)
    metrics.watch(database)
    waited = Moved("db_connection_wait_time_seconds_count", operation="query")

    def look(_: object) -> tuple[float, float]:
        return value("db_connections_active"), value("db_connections_idle")

    assert database.call(look) == (1, 0)
    assert (value("db_connections_active"), value("db_connections_idle"), value("db_connections_max")) == (0, 1, 8)
    assert waited.by == 1
    database.close()


def test_all_names_have_the_prefix_and_a_description() -> None:
    ours = [family for family in registry.collect() if not family.name.startswith("penstock_")]
    assert len(ours) >= 35
    for family in ours:
        assert re.fullmatch(r"health_export_[a-z0-9_]+", family.name)
        assert family.documentation.endswith(".")
