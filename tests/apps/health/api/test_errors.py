from __future__ import annotations

import asyncio
import json
import logging
import re
from ipaddress import ip_network
from typing import Any

import pytest

from penstock.apps.health.api import accepted
from penstock.errors import ConnectionLost
from penstock.observe.logs import correlation_id
from penstock.platform.web import exchange

ORIGIN = {"origin": "https://health.example"}


async def test_every_error_is_json(served: Any) -> None:
    asked = [
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", "/api/v1/nothing.html", 404, "not_found"),
        ("PUT", "/api/v1/ingest", 405, "method_not_allowed"),
        ("GET", "/api/v1/ingests?limit=0", 400, "validation_error"),
        ("GET", "/api/v1/ingests?limit=x", 400, "validation_error"),
        ("GET", "/api/v1/ingest/%00", 404, "not_found"),
        ("POST", "/api/v1/quarantine/x/retry", 404, "not_found"),
    ]
    for method, path, status, name in asked:
        answer = await served.client.request(method, path)
        assert (answer.status_code, answer.json()["error"]) == (status, name), path
        assert answer.headers["content-type"] == "application/json"
        found = answer.json()
        assert (found["success"], found["data"]) == (False, None)
        assert found["message"]
        assert found["timestamp"]


async def test_a_wrong_method_names_the_right_ones(served: Any) -> None:
    answer = await served.client.put("/api/v1/ingest")
    assert "POST" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("ingest", "OPTIONS, POST"),
        ("ingest/x", "GET, OPTIONS"),
        ("jobs/x", "DELETE, GET, OPTIONS"),
        ("data/x/", "DELETE, OPTIONS"),
    ],
)
async def test_what_a_path_may_be_asked_needs_no_key(served: Any, path: str, methods: str) -> None:
    answer = await served.client.options(f"/api/v1/{path}", headers={"authorization": ""})
    assert (answer.status_code, answer.headers["allow"]) == (204, methods)
    assert (await served.client.options("/api/v1/nothing")).status_code == 404


async def test_garbage_in_place_of_a_host_is_refused_as_json(served: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /api/v1/ingests HTTP/1.1\r\nHost: <a>\r\nConnection: close\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b" 400 " in head
    assert json.loads(body)["success"] is False


async def test_a_fault_of_ours_shows_nothing(
    served: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the secret path /etc/x")

    monkeypatch.setattr(accepted.accounting, "outcome", fail)
    made = await served.client.post("/api/v1/ingest", json={"data": {}})
    answer = await served.client.get(f"/api/v1/ingest/{made.json()['id']}")
    assert (answer.status_code, answer.json()["error"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "the secret path" in caplog.text


async def test_a_database_that_is_away_is_503(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ConnectionLost("host db.example: password of me is wrong")

    monkeypatch.setattr(accepted.accounting, "outcome", fail)
    made = await served.client.post("/api/v1/ingest", json={"data": {}})
    answer = await served.client.get(f"/api/v1/ingest/{made.json()['id']}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "db.example" not in answer.text


async def test_every_answer_carries_what_browsers_need_to_be_safe(served: Any) -> None:
    for path in ("/api/v1/ingests", "/api/v1/nothing", "/api/v1/openapi.json"):
        headers = (await served.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["referrer-policy"] == "no-referrer"
        assert "strict-transport-security" not in headers
    assert (await served.client.get("/api/v1/ingests")).headers["cache-control"] == "no-store"


async def test_tls_is_insisted_on_behind_a_trusted_proxy_alone(serve: Any, settings: Any) -> None:
    said = {"x-forwarded-proto": "https"}
    async with serve(settings) as served:
        assert "strict-transport-security" not in (await served.client.get("/api/v1/ingests", headers=said)).headers
    trusting = settings.model_copy(update={"trusted_proxies": [ip_network("127.0.0.0/8")]})
    async with serve(trusting) as served:
        assert "strict-transport-security" in (await served.client.get("/api/v1/ingests", headers=said)).headers
        assert "strict-transport-security" not in (await served.client.get("/api/v1/ingests")).headers


async def test_a_request_id_is_kept_and_returned(served: Any) -> None:
    answer = await served.client.get("/api/v1/ingests", headers={"x-request-id": "phone-1.2:3"})
    assert answer.headers.get_list("x-request-id") == ["phone-1.2:3"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", "<script>", "é"])
async def test_a_request_id_that_is_not_fit_is_replaced(served: Any, given: str) -> None:
    answer = await served.client.get("/api/v1/nothing", headers={"x-request-id": given.encode()})
    (found,) = answer.headers.get_list("x-request-id")
    assert found != given
    assert re.fullmatch("[0-9a-f-]{32,36}", found)


async def test_log_lines_of_a_request_share_its_id(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(exchange.RequestScope, "finish", lambda _: seen.append(correlation_id.get()))
    await served.client.get("/api/v1/ingests", headers={"x-request-id": "r-1"})
    assert seen == ["r-1"]
    assert correlation_id.get() is None


async def test_each_request_is_logged_without_its_secrets(served: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "penstock.health")
    await served.client.get("/api/v1/ingests?limit=7")
    await served.client.get("/api/v1/a%0Ab", headers={"authorization": ""})
    lines = [record.getMessage() for record in caplog.records if record.name == "penstock.health"]
    assert re.fullmatch(r"GET /api/v1/ingests 200 \d+\.\d ms, \d+ bytes, user 1", lines[0])
    assert re.fullmatch(r"GET /api/v1/a%0Ab 404 .* user -", lines[1])
    assert served.client.headers["authorization"].removeprefix("Bearer ") not in caplog.text
    assert "limit=7" not in caplog.text


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_a_preflight_needs_no_key(served: Any, method: str) -> None:
    asked = {
        **ORIGIN,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization, content-type",
        "authorization": "",
    }
    answer = await served.client.options("/api/v1/ingests", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://health.example"
    assert method in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"


async def test_a_page_of_an_allowed_origin_may_read_the_answer(served: Any) -> None:
    for path in ("/api/v1/ingests", "/api/v1/nothing"):
        answer = await served.client.get(path, headers=ORIGIN)
        assert answer.headers["access-control-allow-origin"] == "https://health.example"
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert "origin" in answer.headers["vary"].lower()


async def test_a_page_of_another_origin_may_not(served: Any) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    preflight = await served.client.options("/api/v1/ingests", headers=asked)
    assert (preflight.status_code, preflight.json()["error"]) == (403, "forbidden")
    assert "access-control-allow-origin" not in preflight.headers
    answer = await served.client.get("/api/v1/ingests", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_without_allowed_origins_no_page_may(serve: Any, settings: Any) -> None:
    async with serve(settings.model_copy(update={"allowed_origins": []})) as served:
        answer = await served.client.get("/api/v1/ingests", headers=ORIGIN)
        assert "access-control-allow-origin" not in answer.headers
    async with serve(settings.model_copy(update={"allowed_origins": ["*"]})) as served:
        answer = await served.client.get("/api/v1/ingests", headers=ORIGIN)
        assert answer.headers["access-control-allow-origin"] == "https://health.example"


async def test_the_description_needs_no_key_and_names_each_operation_once(served: Any) -> None:
    answer = await served.client.get("/api/v1/openapi.json", headers={"authorization": ""})
    assert answer.status_code == 200
    document = answer.json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) > 20
    assert all(operation["summary"] and operation["responses"] for operation in operations)
    body = document["paths"]["/api/v1/ingest"]["post"]["requestBody"]["content"]
    assert {"application/json", "text/csv"} <= set(body)


async def test_a_fault_before_the_app_is_json_too(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(served.app, "asgi_handler", fail)
    answer = await served.client.get("/api/v1/ingests")
    assert (answer.status_code, answer.json()["error"]) == (500, "internal_error")
