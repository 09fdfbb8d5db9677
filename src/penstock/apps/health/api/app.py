"""The ASGI application: its routes, who is let in, and what every answer carries."""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, get
from litestar.datastructures import State
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.serialization import encode_json
from litestar.types import ControllerRouterHandler
from litestar.utils import normalize_path

from ....identifiers import new_id
from ....observe.logs import correlation_id
from ....platform.access.caller import Caller
from ....platform.access.visit import masked
from ....platform.web import errors
from ..service import Health
from .bodies import Accepting

MODULES = (
    "ingest",
    "jobs",
    "erasing",
    "reading",
    "domains",
    "exporting",
    "profile",
    "administration",
    "documentation",
    "probes",
)
"""The modules of this package whose ``ROUTES`` are served."""

log = logging.getLogger("penstock.health")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:/+=-]{1,128}")
_TOKENS = re.compile(rb"[A-Za-z0-9_, -]{1,1000}")
_METHODS = b"GET, POST, PUT, PATCH, DELETE, OPTIONS"
_EXPOSED = (
    b"x-request-id, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, x-ratelimit-window, retry-after, "
    b"location, etag, content-disposition, x-next-cursor"
)
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"geolocation=(), camera=(), microphone=()"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_TLS = ((b"strict-transport-security", b"max-age=31536000; includeSubDomains"),)
_PROBES = ("/health/", "/ready", "/metrics")


def routes(modules: Sequence[str] = MODULES) -> list[ControllerRouterHandler]:
    """Return the handlers of ``modules``."""
    return [handler for name in modules for handler in importlib.import_module(f"{__package__}.{name}").ROUTES]


@get("/api/v1/openapi.json", opt={"public": True}, include_in_schema=False, media_type=MediaType.JSON)
async def openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Return the description of this API."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        document = request.app.openapi_schema
        state.openapi = await asyncio.to_thread(lambda: encode_json(document.to_schema()))
    return Response(state.openapi, media_type=MediaType.JSON, headers={"cache-control": "public, max-age=300"})


def build(health: Health, modules: Sequence[str] = MODULES) -> Litestar:
    """Return the application that serves the routes of ``modules``.

    A handler says in ``opt`` who may call it: ``opt={"scope": "read", "limit": "read"}``, or ``opt={"public": True}``.
    The gate refuses the others before a handler runs; ``request.user`` is the Caller.
    """
    from ....platform.access.gate import GateMiddleware

    handlers: Any = errors.HANDLERS
    key = SecurityScheme(type="http", scheme="bearer", description="A key made by `penstock health keys create`.")
    return Api(
        route_handlers=[openapi, *routes(modules)],
        middleware=[GateMiddleware],
        exception_handlers=handlers,
        state=State({"health": health, "accepting": Accepting(health.settings.max_accepting_bytes)}),
        openapi_config=OpenAPIConfig(
            title="Penstock health",
            version="1",
            components=Components(security_schemes={"key": key}),
            security=[{"key": []}],
            path="/schema",  # not mounted: its pages answer in HTML
            render_plugins=[],
            use_handler_docstrings=True,
        ),
        logging_config=None,
        debug=False,
    )


class Api(Litestar):
    """The application, and around all of it: request ids, headers of security, CORS and the log of requests."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, preflights before anybody is asked for a key."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        exchange = Exchange(self.state.health, scope, send)
        token = correlation_id.set(exchange.id.decode())
        try:
            if exchange.is_preflight:
                await exchange.preflight()
            elif scope["method"] == "OPTIONS" and (allowed := self._allowed(scope["path"])):
                await exchange.answer(204, [(b"allow", ", ".join(sorted(allowed)).encode())])
            else:
                await super().__call__(scope, receive, exchange.send)
        except Exception as error:
            if exchange.has_begun:
                raise
            log.error("%s failed", scope["method"], exc_info=error)
            await exchange.refuse(500, "internal_error", "this request could not be handled; the log says why")
        finally:
            exchange.finish()
            correlation_id.reset(token)

    def _allowed(self, path: str) -> set[str]:
        """Return the methods by which a path may be asked for; none if there is nothing of its name."""
        routing: Any = self.asgi_router.handle_routing
        path = normalize_path(path)
        try:
            routing(path=path, method="?")
        except MethodNotAllowedException as known:
            named = (known.headers or {}).get("allow", "").split(", ")
            return {name for name in named if name == "OPTIONS" or _is_shown(routing(path=path, method=name)[1])}
        except HTTPException:
            pass
        return set()


def _is_shown(handler: HTTPRouteHandler) -> bool:
    return handler.resolve_include_in_schema()


class Exchange:
    """One request, and what is added to its answer."""

    def __init__(self, health: Health, scope: Any, send: Any) -> None:
        self._settings, self._scope, self._send = health.settings, scope, send
        self._started = time.perf_counter()
        self._status = self._sent = 0
        self._asked: dict[bytes, bytes] = dict(scope["headers"])
        given = self._asked.get(b"x-request-id", b"")
        self.id: bytes = masked(given.decode()).encode() if _REQUEST_ID.fullmatch(given) else new_id().encode()
        """What the client called the request, if that is fit to be logged, or what we call it."""
        if self.id != given:  # so that whoever reads the header later reads the same
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"x-request-id"]
            scope["headers"].append((b"x-request-id", self.id))
        self._origin = self._asked.get(b"origin")
        allowed = self._settings.allowed_origins
        self._allowed = self._origin is not None and ("*" in allowed or self._origin.decode("latin-1") in allowed)

    @property
    def is_preflight(self) -> bool:
        """Whether a browser asks if a page of another origin may call us."""
        return (
            self._scope["method"] == "OPTIONS"
            and self._origin is not None
            and b"access-control-request-method" in self._asked
        )

    async def preflight(self) -> None:
        """Tell a browser what a page of its origin may do."""
        fields = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", b"600")]
        names = self._asked.get(b"access-control-request-headers", b"")
        if _TOKENS.fullmatch(names):
            fields.append((b"access-control-allow-headers", names))
        if not self._allowed:
            await self.refuse(403, "forbidden", "pages of this origin may not call the API")
            return
        await self.answer(204, fields)

    async def answer(self, status: int, fields: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """Send a whole answer."""
        await self.send({"type": "http.response.start", "status": status, "headers": fields})
        await self.send({"type": "http.response.body", "body": body})

    async def refuse(self, status: int, error: str, message: str) -> None:
        """Answer with an error."""
        body = msgspec.json.encode(errors.envelope(error, message))
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self.answer(status, fields, body)

    @property
    def has_begun(self) -> bool:
        """Whether the answer is on its way."""
        return bool(self._status)

    async def send(self, message: Any) -> None:
        """Pass on a message of the answer, with our headers where it has none of its own."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            given = list(message.get("headers", ()))
            names = {name.lower() for name, _ in given}
            message = {**message, "headers": [*given, *(pair for pair in self._headers() if pair[0] not in names)]}
        else:
            self._sent += len(message.get("body", b""))
        await self._send(message)

    def _headers(self) -> Iterable[tuple[bytes, bytes]]:
        yield b"x-request-id", self.id
        yield from _ALWAYS
        if self._is_tls():
            yield from _TLS
        if self._settings.allowed_origins:
            yield b"vary", b"origin"
        if self._allowed and self._origin is not None:
            yield b"access-control-allow-origin", self._origin
            yield b"access-control-expose-headers", _EXPOSED

    def _is_tls(self) -> bool:
        """Whether the client came by TLS, to us or to a proxy that we trust."""
        if self._scope.get("scheme") == "https":
            return True
        if self._asked.get(b"x-forwarded-proto", b"").strip().lower() == b"https":
            with suppress(ValueError):
                peer = ip_address((self._scope.get("client") or ("",))[0])
                return any(peer in network for network in self._settings.trusted_proxies)
        return False

    def finish(self) -> None:
        """Log the request: no query, which may hold what is nobody's business, and never a header."""
        path = (self._scope.get("raw_path") or b"").partition(b"?")[0].decode("ascii", "replace")[:200]
        if not path.isprintable():
            path = ascii(path)
        path = masked(path)
        user = self._scope.get("user")
        log.log(
            logging.DEBUG if path.startswith(_PROBES) and self._status < 400 else logging.INFO,
            "%s %s %d %.1f ms, %d bytes, user %s",
            self._scope["method"],
            path,
            self._status or 499,
            (time.perf_counter() - self._started) * 1000,
            self._sent,
            user.user if isinstance(user, Caller) else "-",
        )
