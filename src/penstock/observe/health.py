"""The pages on which others see how the streams are: health, readiness, liveness, metrics."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..serving.asgi import Asgi, Message, Scope
from .metrics import exposition


@dataclass(frozen=True, slots=True)
class Status:
    """How one stream or service is."""

    id: str
    state: str
    trouble: str | None
    """What stands in the way; the stream is unwell while anything does."""
    note: str | None
    """What a person should know though nothing stands in the way."""
    rows_in: int
    rows_out: int
    rows_refused: int
    restarts: int
    lag: Mapping[str, int] = field(default_factory=dict)
    """What is left to read in each partition, where the source has them."""

    @property
    def is_well(self) -> bool:
        """Whether nothing is in its way."""
        return self.state not in ("failed", "restarting") and self.trouble is None


class Paths(Protocol):
    """Where the pages are and who may see them: what a configuration calls ``health_check``."""

    @property
    def health_path(self) -> str: ...
    @property
    def readiness_path(self) -> str: ...
    @property
    def liveness_path(self) -> str: ...
    @property
    def cors_origins(self) -> list[str]: ...


class Pages:
    """The pages of one process, each an ASGI application."""

    def __init__(
        self,
        statuses: Callable[[], list[Status]],
        paths: Paths,
        services: Callable[[], list[Status]] = lambda: [],
    ) -> None:
        self._statuses, self._paths, self._services = statuses, paths, services

    def routes(self) -> dict[str, Asgi]:
        """Return the pages by path."""
        return {
            self._paths.health_path: self._page(self._health),
            self._paths.readiness_path: self._page(self._readiness),
            self._paths.liveness_path: self._page(lambda scope: (200, {"status": "alive"})),
            "/metrics": self._page(lambda scope: (200, exposition())),
        }

    def _health(self, scope: Scope) -> tuple[int, Any]:
        statuses, services = self._statuses(), self._services()
        well = all(status.is_well for status in (*statuses, *services))
        lines = {"streams": _described(statuses), "services": _described(services)}
        return (200 if well else 503), {"status": "well" if well else "unwell", **lines}

    def _readiness(self, scope: Scope) -> tuple[int, Any]:
        everything = (*self._statuses(), *self._services())
        ready = all(status.state in ("running", "paused", "finished", "stopped") for status in everything)
        return (200 if ready else 503), {"status": "ready" if ready else "not ready"}

    def _page(self, answer: Callable[[Scope], tuple[int, Any]]) -> Asgi:
        async def page(
            scope: Scope,
            receive: Callable[[], Awaitable[Message]],
            send: Callable[[Message], Awaitable[None]],
        ) -> None:
            if scope["method"] not in ("GET", "HEAD"):
                status, body = 405, {"code": "method_not_allowed", "message": "expected GET"}
            else:
                status, body = answer(scope)
            text = isinstance(body, bytes)
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
            kind = b"text/plain; version=0.0.4; charset=utf-8" if text else b"application/json"
            headers = [(b"content-type", kind), (b"content-length", str(len(payload)).encode()), *self._cors(scope)]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else payload})

        return page

    def _cors(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        origin = dict(scope["headers"]).get(b"origin", b"")
        if origin and origin.decode("latin-1") in self._paths.cors_origins:
            return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
        return []


def _described(statuses: list[Status]) -> dict[str, dict[str, Any]]:
    return {
        one.id: {
            "state": one.state,
            "trouble": one.trouble,
            **({"note": one.note} if one.note else {}),
            **({"lag": dict(one.lag)} if one.lag else {}),
        }
        for one in statuses
    }
