"""The gate in front of the routes of an application."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from ..web.errors import ApiError
from .request import AuthRequest, request_id

if TYPE_CHECKING:
    from .gate import Gate


class GateMiddleware:
    """Pass admitted requests to their handler and raise ApiError for others; add the limits to each answer.

    The handler's ``opt`` names the scope that a key must have (``{"scope": "read", "limit": "read"}``, ``"any"`` for
    any key, ``"operator"`` for what concerns the whole process) or says that no key is needed (``{"public": True}``). A
    handler that says nothing needs ``admin``. Names are those of the application in ``state.application``; the Gate is
    in ``state.gate``.
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
        state = scope["litestar_app"].state
        gate: Gate = state.gate
        request = AuthRequest.of(scope, state.application, gate.options.trusted_proxies)
        identified = {"x-request-id": request.request_id}
        try:
            admission = await gate.admit(request)
        except ApiError as refused:
            refused.headers.update(identified)
            raise
        scope["user"], scope["auth"] = admission.caller, admission
        body = _Body(receive)
        try:
            await self.app(scope, body, _Answer(send, identified | admission.headers(), admission.audited))
        finally:
            await admission.audited
            if request.bytes is None and body.bytes:
                await gate.spend(admission, body.bytes)


def _is_public(scope: Scope) -> bool:
    """Whether no key is needed: the handler says so, or it is one of the framework."""
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
