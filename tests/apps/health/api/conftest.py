"""The API on a real listener, with a SQLite and keys; behind the feed, a stream that is played by the test."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.datastructures import State

from penstock.apps.health import acceptance
from penstock.apps.health.acceptance import Accepted, Counts, Outcome
from penstock.apps.health.api.app import build, state_of
from penstock.apps.health.gate import gate_of
from penstock.apps.health.raw import Raw
from penstock.apps.health.schema import ingests, metadata, quarantine
from penstock.apps.health.service import Health
from penstock.apps.health.settings import Settings
from penstock.inputs.feed import Feed
from penstock.platform.access import keys
from penstock.platform.access import schema as access
from penstock.platform.access.audit import FEED
from penstock.platform.database import Database
from penstock.platform.outcomes import Outcomes
from penstock.testing.contexts import lend_context

SCOPES = ("ingest", "read", "export", "admin")


@dataclass
class Played:
    """What stands behind the feed: takes ingests, and processes them as far as the test wants."""

    health: Health
    taken: list[Accepted] = field(default_factory=list)
    refusal: Exception | None = None
    """What it refuses them with."""
    deaf: bool = False
    """Whether it never says that it has taken something."""
    lazy: bool = False
    """Whether it takes them and processes nothing."""

    async def run(self, reader: Any) -> None:
        while True:
            delivery = await reader.read()
            if self.deaf:
                continue
            if self.refusal is not None:
                await delivery.nack(self.refusal)
                continue
            taken = acceptance.unpack(delivery.batch)
            self.taken += taken
            await delivery.ack()
            if not self.lazy:
                for accepted in taken:
                    outcome = await asyncio.to_thread(self.process, accepted)
                    self.health.outcomes.settle(outcome.id, outcome)

    def process(self, accepted: Accepted) -> Outcome:
        """Count the points of a body; one that says ``bad`` is quarantined."""
        outcome = Outcome(
            id=accepted.id,
            state="processed",
            received_at=accepted.received_at,
            completed_at=datetime.now(UTC),
            bytes=accepted.bytes,
            sha256=accepted.sha256,
            attempt=accepted.attempt,
        )
        held: list[dict[str, Any]] = []
        try:
            with self.health.raw.open(accepted.raw) as file:
                body = file.read()
            parsed = json.loads(gzip.decompress(body) if accepted.content_encoding == "gzip" else body)
            for number, metric in enumerate(parsed["data"].get("metrics", [])):
                counts = outcome.types.setdefault(metric["name"], Counts())
                for index, point in enumerate(metric["data"]):
                    counts.received += 1
                    if "bad" in point:
                        counts.quarantined += 1
                        path = f"data.metrics[{number}].data[{index}]"
                        held.append({"type": metric["name"], "index": index, "path": path, "payload": point})
                    else:
                        counts.stored += 1
        except (ValueError, LookupError, TypeError) as error:
            outcome.state, outcome.error = "failed", str(error)
        outcome.counts = acceptance.counted(outcome.types)
        self.health.database.call(lambda connection: _write(connection, accepted, outcome, held))
        return outcome


def _write(connection: Any, accepted: Accepted, outcome: Outcome, held: list[dict[str, Any]]) -> None:
    connection.execute(ingests.delete().where(ingests.c.id == accepted.id))
    counts = {name: getattr(outcome.counts, name) for name in Counts.__struct_fields__}
    types = {name: [getattr(of, part) for part in counts] for name, of in outcome.types.items()}
    connection.execute(
        ingests.insert().values(
            id=accepted.id,
            user_id=accepted.user,
            key_id=accepted.key,
            received_at=accepted.received_at,
            completed_at=outcome.completed_at,
            state=outcome.state,
            attempt=accepted.attempt,
            error=outcome.error,
            form=accepted.form,
            format="v2",
            bytes=accepted.bytes,
            sha256=accepted.sha256,
            raw=accepted.raw,
            headers=json.dumps(accepted.headers),
            types=json.dumps(types),
            **counts,
        )
    )
    for point in held:
        connection.execute(
            quarantine.insert().values(
                user_id=accepted.user,
                ingest_id=accepted.id,
                attempt=accepted.attempt,
                type=point["type"],
                index=point["index"],
                path=point["path"],
                reason="date: it is missing",
                payload=json.dumps(point["payload"]),
                created_at=datetime.now(UTC),
            )
        )


@dataclass
class Served:
    """The API as a client finds it."""

    health: Health
    app: Any
    client: httpx.AsyncClient
    stream: Played
    port: int
    stranger: dict[str, str]
    """The header with another user's key."""

    async def key(self, *scopes: str, user: str = "me") -> dict[str, str]:
        """Make a key and return the header that shows it."""
        made = await self.health.database.run(
            lambda connection: keys.create(
                connection, name="test", user=user, scopes=self.health.gate.scopes.asked(scopes, "health")
            )
        )
        return {"authorization": f"Bearer {made.secret}"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """What most tests run with."""
    return Settings(
        data=tmp_path, database_url=f"sqlite:///{tmp_path}/a.db", wait="2s", allowed_origins=["https://health.example"]
    )


_built: dict[tuple[str, ...], list[Litestar]] = {}


@asynccontextmanager
async def application(health: Health, modules: Sequence[str]) -> AsyncIterator[Litestar]:
    """Lend the application of ``modules`` with the state of ``health``: building one anew takes 80 ms."""
    idle = _built.setdefault(tuple(modules), [])
    app = idle.pop() if idle else build(health, modules)
    app.state = State(state_of(health))
    yield app
    app.state = State()
    idle.append(app)


@asynccontextmanager
async def serving(
    settings: Settings, modules: tuple[str, ...] = ("ingest", "ingests", "quarantine", "jobs", "erasing")
) -> AsyncIterator[Served]:
    """Serve the routes of ``modules`` and play the stream."""
    database = Database.of(settings.database_url.get_secret_value())
    await database.run(metadata.create_all)
    await database.run(access.metadata.create_all)
    gate = gate_of(settings, database)
    raw = await asyncio.to_thread(Raw.of, settings)
    health = Health(settings, database, database, raw, gate, Outcomes())
    stream = Played(health)
    async with (
        application(health, modules) as app,
        lend_context(settings.data / "state") as context,
        gate.open(),
        Feed(name="health").open(context) as reader,
        Feed(name=FEED).open(context) as audit,
        context.listeners.mount("127.0.0.1:0", "/*", app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, verify=False) as client,
    ):
        tasks = [asyncio.create_task(stream.run(reader)), asyncio.create_task(_acknowledge(audit))]
        served = Served(health, app, client, stream, port, {})
        client.headers.update(await served.key(*SCOPES))
        served.stranger = await served.key(*SCOPES, user="somebody else")
        try:
            yield served
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(database.close)


async def _acknowledge(reader: Any) -> None:
    while True:
        await (await reader.read()).ack()


@pytest.fixture
def serve() -> Callable[..., AbstractAsyncContextManager[Served]]:
    """What serves the API with other settings or more routes."""
    return serving


@pytest.fixture
async def served(settings: Settings) -> AsyncIterator[Served]:
    """The routes of ingests and jobs."""
    async with serving(settings) as found:
        yield found


@pytest.fixture
def export() -> dict[str, Any]:
    """A small export: three points, of which one is bad."""
    steps = [{"date": "2026-02-03 06:15:00 +0100", "qty": 12}, {"bad": True}]
    heart = [{"date": "2026-02-03 06:15:00 +0100", "Avg": 61}]
    return {
        "data": {
            "metrics": [
                {"name": "step_count", "units": "count", "data": steps},
                {"name": "heart_rate", "units": "bpm", "data": heart},
            ]
        }
    }
