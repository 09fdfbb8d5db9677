"""Every metric moves when the real service does what it counts: started as a user starts it, asked over HTTP."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.testing.servers import free_port

_ALL_SCOPES = [part for scope in ("ingest", "read", "export", "admin") for part in ("--scope", scope)]


class Running:
    """A service that runs, a key to it, and its metrics."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")},
            "PENSTOCK_DATA": str(folder / "data"),
            "PENSTOCK_HEALTH_QUALITY_INTERVAL": "1s",
            "PENSTOCK_HEALTH_EXPORT__REQUESTS": "1",
            "PENSTOCK_HEALTH_EXPORT__ALLOWANCE_REQUESTS": "0",
        }
        self.key = self.run("health", "keys", "create", "--name", "phone", *_ALL_SCOPES).strip()
        address = self.url.removeprefix("http://")
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "penstock", "up", "--address", address, "--inbox", str(folder / "inbox")],
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def run(self, *words: str) -> str:
        command = [sys.executable, "-m", "penstock", *words]
        return subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=True, timeout=120
        ).stdout

    def ready(self) -> None:
        deadline = time.monotonic() + 90
        while True:
            try:
                if httpx.get(f"{self.url}/health/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, body: Any, key: str | None = None, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(
            f"{self.url}/api/v1/ingest", content=content, headers=self.headers(key, **headers), timeout=20
        )

    def get(self, path: str, key: str | None = None) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers=self.headers(key), timeout=60)

    def headers(self, key: str | None = None, **more: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key if key is None else key}", **more}

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        text = httpx.get(f"{self.url}/metrics", timeout=60).text
        return {
            (sample.name.removeprefix("health_export_"), frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("health_export_")
        }

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric that have these labels."""
        wanted = set(labels.items())
        return sum(value for (found, has), value in self.samples().items() if found == name and wanted <= has)


def export(*metrics: tuple[str, str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {"data": {"metrics": [{"name": name, "units": units, "data": data} for name, units, data in metrics]}}


def steps(*values: float | str) -> list[dict[str, Any]]:
    return [
        {"date": f"2026-02-03 0{hour}:00:00 +0100", "qty": value, "source": "Watch"}
        for hour, value in enumerate(values)
    ]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that has done everything that is counted."""
    service = Running(tmp_path_factory.mktemp("health"))
    try:
        service.ready()
        assert service.send(export(("step_count", "count", steps(10, 20, 30)))).status_code == 200
        assert service.send(export(("step_count", "count", steps(10, 21, 30)))).status_code == 200
        assert service.send(export(("step_count", "count", steps(10, "garbage")))).status_code == 200
        assert service.send(export(("blood_glucose_of_mars", "count", steps(1, 2)))).status_code == 200
        assert service.send(export(("heart_rate", "bpm", steps(5)))).status_code == 200
        assert service.send(b'{"data": {"metrics": [').status_code == 400
        large = gzip.compress(json.dumps(export(("step_count", "count", []))).encode() + b" " * 1000)
        assert service.send(large, **{"content-encoding": "gzip"}).status_code == 200
        assert service.get("/api/v1/metrics/step_count").status_code == 200
        assert service.get("/api/v1/nothing/here").status_code == 404
        assert httpx.get(f"{service.url}/api/v1/metrics").status_code == 401
        assert service.get("/api/v1/metrics", key="hea_" + "0" * 40).status_code == 401
        export_status = [service.get("/api/v1/export/all?format=csv").status_code for _ in range(2)]
        assert export_status == [200, 429]
        deadline = time.monotonic() + 90
        while not service.value("quality_users", finding="quarantined") or not service.value("quarantine_open_points"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield service
    finally:
        service.stop()


MOVED: list[tuple[str, dict[str, str], float]] = [
    ("http_requests_total", {"method": "POST", "endpoint": "/api/v1/ingest", "status_code": "200"}, 6),
    ("http_requests_total", {"endpoint": "/api/v1/metrics/{name}", "status_code": "200"}, 1),
    ("http_requests_total", {"endpoint": "other", "status_code": "404"}, 1),
    ("http_request_duration_seconds_count", {"method": "POST", "endpoint": "/api/v1/ingest"}, 7),
    ("ingest_requests_total", {}, 7),
    ("ingest_duration_seconds_count", {"status": "processed"}, 6),
    ("ingest_duration_seconds_count", {"status": "unreadable"}, 1),
    ("ingest_metrics_processed_total", {"metric_type": "step_count", "status": "stored"}, 3),
    ("ingest_metrics_processed_total", {"metric_type": "step_count", "status": "updated"}, 1),
    ("ingest_metrics_processed_total", {"metric_type": "step_count", "status": "quarantined"}, 1),
    ("ingest_metrics_processed_total", {"metric_type": "step_count", "status": "unchanged"}, 3),
    ("ingest_metrics_processed_total", {"metric_type": "other", "status": "stored"}, 2),
    ("health_metrics_stored_total", {"metric_type": "heart_rate"}, 1),
    ("duplicates_removed_total", {}, 3),
    ("quarantined_points_total", {"metric_type": "step_count"}, 1),
    ("ios_unknown_metric_types_total", {}, 2),
    ("ios_metric_data_loss_total", {}, 0),
    ("validation_errors_total", {"metric_type": "step_count", "error_category": "unreadable"}, 1),
    ("validation_errors_total", {"metric_type": "heart_rate", "error_category": "suspicious_value"}, 1),
    ("validation_errors_total", {"error_category": "request", "endpoint": "/api/v1/ingest"}, 1),
    ("errors_total", {"error_type": "validation_error", "severity": "warning"}, 1),
    ("auth_attempts_total", {"result": "missing", "key_type": "none"}, 1),
    ("auth_attempts_total", {"result": "unknown", "key_type": "hea"}, 1),
    ("security_events_total", {"event": "key_unknown"}, 1),
    ("rate_limited_requests_total", {}, 1),
    ("rate_limit_exhaustion_total", {"limit_type": "export"}, 1),
    ("large_request_total", {}, 0),
    ("active_users_24h", {}, 1),
    ("users", {}, 1),
    ("unfinished_ingests", {}, 0),
    ("quarantine_open_points", {}, 1),
    ("quality_users", {"finding": "quarantined"}, 1),
    ("job_runs_total", {"result": "failure"}, 0),
]
"""What the metrics stand at after all that; a sum where not all labels are given."""

ABOVE: list[tuple[str, dict[str, str], float]] = [
    ("batch_processing_duration_seconds_count", {"batch_size_bucket": "small"}, 5),
    ("data_volume_bytes_total", {"data_type": "request", "operation": "received"}, 500),
    ("data_volume_bytes_total", {"data_type": "answer", "operation": "sent"}, 500),
    ("data_volume_bytes_total", {"data_type": "raw", "operation": "stored"}, 500),
    ("data_volume_bytes_total", {"data_type": "export"}, 10),
    ("request_size_bytes_count", {}, 7),
    ("processing_duration_seconds_count", {"size_bucket": "small"}, 7),
    ("db_connections_idle", {}, 1),
    ("db_connections_max", {}, 8),
    ("db_connection_wait_time_seconds_count", {"operation": "query"}, 5),
    ("auth_attempts_total", {"result": "success", "key_type": "hea"}, 8),
    ("last_ingest_timestamp_seconds", {}, 1.7e9),
    ("quality_worst_score", {}, 0.1),
    ("job_runs_total", {"task": "gauges", "result": "success"}, 1),
    ("job_duration_seconds_count", {"task": "quality"}, 1),
    ("job_last_success_timestamp_seconds", {"task": "quality"}, 1.7e9),
]
"""What stands at least so high."""


def _name(value: Any) -> str:
    return value if isinstance(value, str) else "-".join(value.values()) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("name", "labels", "expected"), MOVED, ids=_name)
def test_it_stands_at(running: Running, name: str, labels: dict[str, str], expected: float) -> None:
    assert running.value(name, **labels) == expected


@pytest.mark.parametrize(("name", "labels", "least"), ABOVE, ids=_name)
def test_it_stands_at_least_at(running: Running, name: str, labels: dict[str, str], least: float) -> None:
    assert running.value(name, **labels) >= least


def test_nothing_that_a_client_sends_becomes_a_label(running: Running) -> None:
    text = httpx.get(f"{running.url}/metrics", timeout=60).text
    assert "mars" not in text
    assert "nothing/here" not in text
    assert running.key not in text
    assert running.key[:12] not in text
