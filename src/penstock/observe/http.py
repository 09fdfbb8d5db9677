"""Count the requests that applications answer; every label is of a closed set, so their number is bounded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from ..serving.asgi import Asgi, Message, Receive, Scope, Send
from .metrics import registry

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The methods that have a label of their own."""
OTHER = "other"
"""The label of every other method."""

_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROUTE = ("application", "method", "route")
_requests = Counter(
    "penstock_http_requests_total", "Requests answered by applications.", (*_ROUTE, "status"), registry=registry
)
_seconds = Histogram(
    "penstock_http_request_duration_seconds",
    "From a request to the end of its answer.",
    _ROUTE,
    buckets=_BUCKETS,
    registry=registry,
)
_received = Counter(
    "penstock_http_received_bytes_total", "Bytes of the bodies of requests.", ("application",), registry=registry
)
_sent = Counter(
    "penstock_http_sent_bytes_total", "Bytes of the bodies of answers.", ("application",), registry=registry
)


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered, or that broke off."""

    method: str
    path: str
    """The path that the application serves, such as ``/notes/*``."""
    template: str | None
    """The route below it, such as ``/notes/{id}``, where the application told."""
    status: int
    """That of the answer; 500 where none was begun."""
    seconds: float
    received: int
    """Bytes of the body of the request, as far as it was read."""
    sent: int
    """Bytes of the body of the answer."""


class Measured:
    """An ASGI application whose requests are counted, by the template of the route where it leaves one in the scope."""

    def __init__(self, application: str, path: str, app: Asgi, note: Callable[[Answered], None]) -> None:
        self._application, self._path, self._app, self._note = application, path, app, note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        received, sent, status = 0, 0, 500

        async def receive_counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def send_counting(message: Message) -> None:
            nonlocal sent, status
            status = message.get("status", status)
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive_counting, send_counting)
        finally:
            method = scope["method"] if scope["method"] in METHODS else OTHER
            seconds, template = time.perf_counter() - started, scope.get("path_template")
            self._count(Answered(method, self._path, template, status, seconds, received, sent))

    def _count(self, answered: Answered) -> None:
        labels = (self._application, answered.method, answered.template or self._path)
        _requests.labels(*labels, answered.status).inc()
        _seconds.labels(*labels).observe(answered.seconds)
        _received.labels(self._application).inc(answered.received)
        _sent.labels(self._application).inc(answered.sent)
        self._note(answered)
