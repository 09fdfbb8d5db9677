"""How the service is, for those who watch it: no key is needed, and nothing is said that is nobody's business."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from sqlalchemy import Connection, select

from ....errors import PenstockError
from ....inputs.feed import feed
from ....platform.cache import Cache, SingleFlight
from ..schema import ingests
from ..service import Health

log = logging.getLogger("penstock.health")

FRESH = 1.0
"""For how many seconds the state of the other systems is believed, so that probes cannot wear them out."""
PATIENCE = 3.0
"""After how many seconds a system that does not answer is down."""

Asked = Request[Any, Any, Any]
Condition = Literal["up", "down", "off"]


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


class Checks:
    """Looks at the other systems, once for all who ask at the same time."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._recent: Cache[str, Components] = Cache(ttl=FRESH, size=1)
        self._looking: SingleFlight[str, Components] = SingleFlight(size=1)

    async def components(self) -> Components:
        """Return how the parts are; takes at most PATIENCE seconds."""
        recent = self._recent.get("all")
        if recent is not None:
            return Components(recent.database, _feed(), recent.redis)
        try:
            return await asyncio.wait_for(self._looking.run("all", self._look), PATIENCE)
        except TimeoutError:
            return Components("down", _feed(), "down" if self._health.settings.redis_url else "off")

    async def _look(self) -> Components:
        database, redis = await asyncio.gather(self._database(), self._redis())
        found = Components(database, _feed(), redis)
        self._recent.put("all", found)
        return found

    async def _database(self) -> Condition:
        try:
            await self._health.database.run(_read)
        except PenstockError as error:
            log.warning("the database is not ready: %s", error)
            return "down"
        except Exception:  # No connection of the pool is free, for example.
            log.warning("the database is not ready", exc_info=True)
            return "down"
        return "up"

    async def _redis(self) -> Condition:
        url = self._health.settings.redis_url
        if url is None:
            return "off"
        return "up" if await asyncio.to_thread(_answers, url.get_secret_value()) else "down"


def _read(connection: Connection) -> None:
    """Read a table, so that a database without its tables is not ready."""
    connection.execute(select(ingests.c.id).limit(1)).first()


def _answers(url: str) -> bool:
    from redis import Redis, RedisError
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    wait = PATIENCE / 3
    try:
        client = Redis.from_url(url, socket_timeout=wait, socket_connect_timeout=wait, retry=Retry(NoBackoff(), 0))
        with client:
            return bool(client.ping())
    except (RedisError, OSError, ValueError) as error:
        log.warning("Redis is away: %s", type(error).__name__)  # Its message may quote the URL.
        return False


def _feed() -> Condition:
    return "up" if feed("health").is_open else "down"


async def _components(request: Asked) -> Components:
    state = request.app.state
    if "checks" not in state:
        state.checks = Checks(state.health)
    checks: Checks = state.checks
    return await checks.components()


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
