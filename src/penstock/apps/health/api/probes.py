"""How the service is, for those who watch it: no key is needed, and nothing is said that is nobody's business."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from sqlalchemy import Connection, select

from ....clients import redis
from ....inputs.feed import feed
from ....platform.probes import PROBE_TIMEOUT, PROBE_TTL, Condition, Probes
from ..schema import ingests
from ..service import Health

Asked = Request[Any, Any, Any]


class Components(msgspec.Struct, frozen=True):
    """How the parts of the service are; ``off`` is one that is not configured."""

    database: Condition
    feed: Condition
    redis: Condition

    @property
    def ready(self) -> bool:
        """Whether data can be taken: without Redis it can, limits then count in each process."""
        return self.database == self.feed == "up"

    @property
    def status(self) -> Literal["ready", "degraded", "not ready"]:
        """All of it in a word."""
        if not self.ready:
            return "not ready"
        return "degraded" if self.redis == "down" else "ready"


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(msgspec.Struct, frozen=True):
    """Whether the service can take data, and what it needs for that."""

    status: Literal["ready", "degraded", "not ready"]
    components: Components


class Answer(msgspec.Struct, frozen=True):
    """The envelope of the status."""

    success: bool
    data: Ready
    timestamp: str
    error: str | None = None


def probes_of(health: Health) -> Probes:
    """Return what looks at the database and at Redis."""
    url = health.settings.redis_url

    async def ask_database() -> None:
        await health.database.run(_read)

    async def ask_redis() -> None:
        if url is not None:
            await asyncio.to_thread(redis.ping, url, timeout=PROBE_TIMEOUT / 3)

    checks = {"database": ask_database, "redis": ask_redis if url is not None else None}
    return Probes(checks, ttl=PROBE_TTL, timeout=PROBE_TIMEOUT)


def _read(connection: Connection) -> None:
    """Read a table, so that a database without its tables is not ready."""
    connection.execute(select(ingests.c.id).limit(1)).first()


async def _components(request: Asked) -> Components:
    state = request.app.state
    if "probes" not in state:
        state.probes = probes_of(state.health)
    probes: Probes = state.probes
    return Components(feed="up" if feed("health").is_open else "down", **await probes.look())


_UNCACHED = {"cache-control": "no-store"}


@get("/health/live", opt={"public": True}, security=[{}], summary="Whether the process answers")
async def live() -> Response[Alive]:
    """Answer 200 while the process runs: what a liveness probe asks."""
    return Response(Alive(), headers=_UNCACHED)


def _documented(answer: type[Any]) -> dict[int, ResponseSpec]:
    descriptions = {200: "The service takes data.", 503: "The service cannot take data now."}
    return {
        status: ResponseSpec(answer, generate_examples=False, description=text) for status, text in descriptions.items()
    }


@get(
    ["/health/ready", "/ready"],
    opt={"public": True},
    security=[{}],
    responses=_documented(Ready),
    summary="Whether data is taken",
)
async def ready(request: Asked) -> Response[Ready]:
    """Answer 200, or 503 if the database or the stream is away: what a readiness probe asks.

    Without Redis the service is degraded, and ready.
    """
    components = await _components(request)
    body = Ready(components.status, components)
    return Response(body, status_code=200 if components.ready else 503, headers=_UNCACHED)


_API = {"ready": "operational", "degraded": "degraded", "not ready": "unavailable"}
_WORDS = {"up": "connected", "down": "disconnected", "off": "disabled"}


@get("/api/v1/status", opt={"public": True}, security=[{}], responses=_documented(Answer), summary="How the service is")
async def status(request: Asked) -> Response[Answer]:
    """Answer how the service and what it needs are, in the body and in headers."""
    started = time.perf_counter()
    components = await _components(request)
    error = None if components.ready else "unavailable"
    body = Answer(components.ready, Ready(components.status, components), datetime.now(UTC).isoformat(), error)
    headers = {
        **_UNCACHED,
        "x-api-status": _API[components.status],
        "x-db-status": _WORDS[components.database],
        "x-redis-status": _WORDS[components.redis],
        "x-response-time-ms": f"{(time.perf_counter() - started) * 1000:.1f}",
    }
    return Response(body, status_code=200 if components.ready else 503, headers=headers)


ROUTES = [live, ready, status]
