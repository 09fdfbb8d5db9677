"""The API against its own OpenAPI document: requests made of the schemas, and of what violates them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .exports import shapes
from .service import Service

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
)
OWN_KEY = r"auth/keys/\{key\}"
"""To end or to rotate the key that asks would end the test."""
PHASES = {
    "sqlite": ["--phases", "fuzzing", "--max-examples", "4", "--exclude-path-regex", OWN_KEY],
    "postgresql": ["--phases", "coverage", "--include-path-regex", "/(metrics|workouts|auth/keys)$"],
}
"""What is tried is bounded: a few random requests of all routes, and every border of the parameters of some."""


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("database", PHASES)
def test_every_answer_is_as_documented_and_none_is_an_error_of_the_server(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    service: Service = request.getfixturevalue(f"on_{database}")
    phone = service.phone()
    phone.send(shapes())
    phone.send({"data": {"metrics": [{"name": "step_count", "units": "count", "data": [{"date": "x"}]}]}})
    run = [sys.executable, "-m", "schemathesis.cli", "run", f"http://{service.address}/api/v1/openapi.json"]
    run += ["-H", f"Authorization: Bearer {phone.key}", "--checks", ",".join(CHECKS), "--no-color"]
    run += ["--generation-deterministic", *PHASES[database]]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert phone.get("/api/v1/me")["data"]["key"] == phone.key_id
    assert service.probe() == 200
