"""The gate in front of each route of the API."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from ..web.errors import ApiError
from .visit import Visit, request_id

if TYPE_CHECKING:
    from .gate import Gate


class GateMiddleware:
    """Lets requests in to their handler, or raises ApiError; says in each answer what is left of the limits.

    The handler's ``opt`` says what a key must be good for (``{"scope": "read", "limit": "read"}``, ``"any"`` for any
    key) or that none is needed (``{"public": True}``). A handler of ours that says nothing needs ``admin``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            raise ApiError(403, "forbidden", "only HTTP is served here")
        if _is_public(scope):
            given = (value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"x-request-id")
            await self.app(scope, receive, _Answer(send, {"x-request-id": request_id(given)}))
            return
        gate: Gate = scope["litestar_app"].state.health.gate
        visit = Visit.of(scope, gate.settings.trusted_proxies)
        identified = {"x-request-id": visit.request_id}
        try:
            passed = await gate.admit(visit)
        except ApiError as refused:
            refused.headers.update(identified)
            raise
        scope["user"], scope["auth"] = passed.caller, passed
        body = _Body(receive)
        try:
            await self.app(scope, body, _Answer(send, identified | passed.headers(), passed.audited))
        finally:
            await passed.audited
            if visit.bytes is None and body.bytes:
                await gate.spend(passed, body.bytes)


def _is_public(scope: Scope) -> bool:
    """Whether no key is needed: the handler says so, or it is the framework's own: what the API is, and preflight."""
    handler = scope["route_handler"]
    if handler.opt.get("public"):
        return True
    return "scope" not in handler.opt and getattr(handler.fn, "__module__", "").startswith("litestar.")


class _Body:
    """Counts the bytes that arrive."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.bytes = 0

    async def __call__(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.request":
            self.bytes += len(message["body"])
        return message


class _Answer:
    """Adds headers to an answer, which begins once ``audited`` is done."""

    def __init__(self, send: Send, headers: Mapping[str, str], audited: Awaitable[None] | None = None) -> None:
        self._send, self._headers, self._audited = send, headers, audited

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self._audited is not None:
                await self._audited
            headers = MutableScopeHeaders.from_message(message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        await self._send(message)
