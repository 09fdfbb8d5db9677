"""The control plane over HTTP: shapes that other tools expect, operations, and who may change anything."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from penstock import Engine, loads
from penstock.testing.servers import free_port
from penstock.testing.waiting import until

STREAMS = """
streams:
  - {id: one, input: {type: generate, context: "{}", interval: 5ms}, output: drop}
  - {id: short, input: {type: memory, messages: [a]}, output: drop}
"""


class Client:
    """Asks one process."""

    def __init__(self, engine: Engine, session: aiohttp.ClientSession, root: str) -> None:
        self.engine, self._session, self._root = engine, session, root

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        data = io.BytesIO(json.dumps(body).encode()) if body is not None else None
        async with self._session.request(method, f"{self._root}{path}", data=data, headers=sent) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await answer.json() if is_json else await answer.text()

    async def done(self, method: str, path: str, **headers: str) -> dict[str, Any]:
        """Begin an operation and return it once it has ended."""
        status, begun = await self(method, path, **headers)
        assert status == 202, begun

        async def ended() -> Any:
            _, one = await self("GET", f"/operations/{begun['id']}", **headers)
            return one if one["state"] not in ("queued", "running") else None

        return await until(ended)  # type: ignore[no-any-return]


@asynccontextmanager
async def running(tmp_path: Path, text: str = STREAMS, host: str = "127.0.0.1", **health: Any) -> AsyncIterator[Client]:
    port, stop = free_port(), asyncio.Event()
    options = "".join(f", {name}: {value}" for name, value in health.items())
    configuration = loads(f"data: {tmp_path}\nhealth_check: {{address: '{host}:{port}'{options}}}\n{text}")
    engine = Engine.of(configuration)
    task = asyncio.create_task(engine.run(stop))
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(engine, session, f"http://127.0.0.1:{port}/api/v1")
            await until(lambda: task.done() or (engine.is_running and engine.supervised[0].state == "running"))
            yield client
    finally:
        stop.set()
        await task


async def test_what_there_is(tmp_path: Path) -> None:
    async with running(tmp_path, node_id="edge-1") as ask:
        _, system = await ask("GET", "/system")
        assert (system["node_count"], system["stream_count"]) == (1, 2)
        _, status = await ask("GET", "/status")
        assert (status["state"], status["streams_total"], status["streams_failed"]) == ("running", 2, 0)
        assert (await ask("GET", "/node"))[1]["id"] == "edge-1"
        assert (await ask("GET", "/nodes"))[1]["items"][0]["role"] == "standalone"
        _, page = await ask("GET", "/streams?page=2&page_size=1")
        assert [page["page"], page["page_size"], page["total"], page["items"][0]["id"]] == [2, 1, 2, "short"]
        await until(lambda: ask.engine.supervised[0].metrics.rows_in)
        _, one = await ask("GET", "/streams/one")
        assert (one["state"], one["last_error"]) == ("running", None)
        assert one["metrics"]["input_messages"] > 0
        assert one["started_at_ms"] > 1_000_000_000_000
        assert (await ask("GET", "/streams?page=x"))[0] == 400
        status_code, problem = await ask("GET", "/streams/none", X_Correlation_ID="request-1")
        assert (status_code, problem["code"], problem["correlation_id"]) == (404, "not_found", "request-1")
        _, components = await ask("GET", "/components/input")
        assert {"kind": "input", "name": "generate"} in components
        assert (await ask("GET", "/components/input/generate"))[1]["schema"]["properties"]["interval"]
        assert (await ask("GET", "/components/input/nothing"))[0] == 404
        assert "streams" in (await ask("GET", "/schema"))[1]["properties"]
        assert "penstock_rows_in_total" in (await ask("GET", "/metrics"))[1]
        assert (await ask("POST", "/status"))[0] == 405


async def test_a_stream_is_stopped_started_and_restarted(tmp_path: Path) -> None:
    async with running(tmp_path) as ask:
        one = await ask.done("POST", "/streams/one/stop")
        assert (one["state"], one["operation"], one["resource_id"], one["progress"]) == (
            "succeeded",
            "stop",
            "one",
            100,
        )
        assert one["result"] == {"observed_state": "stopped"}
        assert (await ask("GET", "/streams/one"))[1]["state"] == "stopped"
        assert (await ask.done("POST", "/streams/one/start"))["result"] == {"observed_state": "running"}
        before = ask.engine.supervised[0].began_at
        assert (await ask.done("POST", "/streams/one/restart"))["state"] == "succeeded"
        assert ask.engine.supervised[0].began_at != before
        assert (await ask.done("POST", "/streams/one/start"))["state"] == "succeeded"  # it runs already
        _, page = await ask("GET", "/operations?operation=stop")
        assert [found["id"] for found in page["items"]] == [one["id"]]
        _, events = await ask("GET", "/events")
        assert [event["outcome"] for event in events] == ["succeeded"] * 4
        assert (await ask("POST", "/streams/none/stop"))[0] == 404


async def test_a_stream_that_has_ended_is_started_once_more(tmp_path: Path) -> None:
    async with running(tmp_path) as ask:
        await until(lambda: ask.engine.supervised[1].state == "finished")
        ended = ask.engine.supervised[1]
        assert (await ask.done("POST", "/streams/short/start"))["state"] == "succeeded"
        assert ask.engine.supervised[1] is not ended


@pytest.mark.parametrize("health", [{}, {"api_token": "hush"}])
async def test_pages_of_other_origins_change_nothing(tmp_path: Path, health: dict[str, str]) -> None:
    key = {"Authorization": "Bearer hush"}
    async with running(tmp_path, **health) as ask:
        for headers in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
            assert (await ask("POST", "/streams/one/stop", **headers, **key))[0] == 403
        if not health:
            assert (await ask("POST", "/streams/one/stop", Host="evil.example"))[0] == 403
        assert (await ask("GET", "/streams/one", **key))[1]["state"] == "running"


async def test_a_token_is_asked_for_by_all_routes(tmp_path: Path) -> None:
    async with running(tmp_path, api_token="hush") as ask:
        for method, path in (("GET", "/streams"), ("POST", "/streams/one/stop"), ("GET", "/configuration")):
            assert (await ask(method, path))[0] == 401
            assert (await ask(method, path, Authorization="Bearer wrong"))[0] == 401
        assert (await ask.done("POST", "/streams/one/stop", Authorization="Bearer hush"))["state"] == "succeeded"


async def test_without_a_token_only_this_machine_may_change_anything(tmp_path: Path) -> None:
    async with running(tmp_path, host="0.0.0.0") as ask:
        assert (await ask("GET", "/streams"))[0] == 200
        for method, path in (("POST", "/streams/one/stop"), ("GET", "/configuration")):
            status, problem = await ask(method, path)
            assert (status, "api_token" in problem["message"]) == (403, True)


async def test_a_configuration_is_validated_applied_and_rolled_back(tmp_path: Path) -> None:
    secret = STREAMS.replace("output: drop", "output: {type: http, url: 'http://u:hidden@h/'}", 1)
    async with running(tmp_path) as ask:
        assert ask.engine.configuration is not None
        address = ask.engine.configuration.health_check.address
        head = f"data: {tmp_path}\nhealth_check: {{address: '{address}'}}\n"
        assert (await ask("POST", "/config/validate", {"content": head + STREAMS}))[1] == {"valid": True, "errors": []}
        wrong = {"content": head + STREAMS.replace("generate", "generat")}
        _, report = await ask("POST", "/configuration/validate", wrong)
        assert (report["valid"], report["errors"][0]["path"], report["errors"][0]["line"]) == (
            False,
            "streams.0.input",
            5,
        )
        assert (await ask("POST", "/configuration/apply", wrong))[0] == 422
        assert (await ask("GET", "/configuration/versions"))[1] == []
        kept = ask.engine.supervised[0]
        less = {"content": head + STREAMS.rpartition("  - ")[0]}
        assert (await ask("PUT", "/configuration/draft", less))[0] == 200
        assert (await ask("GET", "/configuration/diff"))[1]["changes"] == ["streams"]
        _, applied = await ask("POST", "/configuration/apply", less)
        assert applied["affected_streams"] == ["short"]
        assert ask.engine.supervised == [kept]
        _, applied_again = await ask("POST", "/config/apply", {"content": head + STREAMS})
        assert [one.name for one in ask.engine.supervised] == ["one", "short"]
        _, back = await ask("POST", f"/configuration/rollback/{applied['version']['id']}")
        assert back["affected_streams"] == ["short"]
        _, versions = await ask("GET", "/configuration/versions")
        assert [one["parent_id"] for one in versions[:-1]] == [applied_again["version"]["id"], applied["version"]["id"]]
        assert (await ask("POST", "/configuration/rollback/..%2F..%2Fx"))[0] == 404
        fixed = {"content": head.replace(str(tmp_path), f"{tmp_path}/other") + STREAMS}
        status, problem = await ask("POST", "/configuration/apply", fixed)
        assert (status, "data" in problem["message"]) == (422, True)
        files = await asyncio.to_thread(lambda: [file.stat() for file in (tmp_path / "configurations").iterdir()])
        assert {file.st_mode & 0o777 for file in files} == {0o600}
        await ask("PUT", "/configuration/draft", {"content": head + secret})
        assert "hidden" not in str((await ask("GET", "/configuration/diff"))[1])
        large = {"content": "x" * (1 << 19), "more": "x" * (1 << 19)}
        assert (await ask("POST", "/configuration/apply", large))[0] == 413
