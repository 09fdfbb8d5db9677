"""The API of an application: its routes, its OpenAPI document, and what surrounds them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from litestar import Litestar, MediaType, Request, Response, get
from litestar.datastructures import State
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.serialization import encode_json
from litestar.types import ControllerRouterHandler
from litestar.utils import normalize_path

from ...observe.logs import correlation_id
from . import errors
from .compression import compress_answers
from .exchange import RequestScope, WebPolicy


def build(
    title: str,
    routes: Sequence[ControllerRouterHandler],
    policy: WebPolicy,
    *,
    openapi_path: str,
    key: str,
    middleware: Sequence[Any] = (),
    state: Mapping[str, Any] | None = None,
) -> Litestar:
    """Return an application that serves ``routes`` and, at ``openapi_path``, their description.

    A route says in ``opt`` who may call it: ``opt={"scope": "read", "limit": "read"}``, or ``opt={"public": True}``.
    ``key`` tells readers of the description where keys come from; ``state`` is what the routes work with.
    """
    handlers: Any = errors.HANDLERS
    scheme = SecurityScheme(type="http", scheme="bearer", description=key)
    return Api(
        route_handlers=[_openapi(openapi_path), *routes],
        middleware=[compress_answers, *middleware],
        exception_handlers=handlers,
        state=State({**(state or {}), "policy": policy}),
        openapi_config=OpenAPIConfig(
            title=title,
            version="1",
            components=Components(security_schemes={"key": scheme}),
            security=[{"key": []}],
            path="/schema",  # not mounted: its pages answer in HTML
            render_plugins=[],
            use_handler_docstrings=True,
        ),
        logging_config=None,
        debug=False,
    )


def _openapi(path: str) -> HTTPRouteHandler:
    @get(path, opt={"public": True}, include_in_schema=False, media_type=MediaType.JSON)
    async def openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Return the description of this API."""
        state = request.app.state
        if not hasattr(state, "openapi"):
            state.openapi = await asyncio.to_thread(lambda: encode_json(request.app.openapi_schema.to_schema()))
        return Response(state.openapi, media_type=MediaType.JSON, headers={"cache-control": "public, max-age=300"})

    return openapi


class Api(Litestar):
    """A Litestar application whose every answer carries a request id and security headers, and is logged."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request; preflights are answered before a key is asked for."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        request = RequestScope(self.state.policy, scope, send)
        token = correlation_id.set(request.id.decode())
        try:
            if request.is_preflight:
                await request.preflight()
            elif scope["method"] == "OPTIONS" and (allowed := self._allowed(scope["path"])):
                await request.answer(204, [(b"allow", ", ".join(sorted(allowed)).encode())])
            elif reason := request.refusal():
                await request.refuse(403, "forbidden", reason)
            else:
                await super().__call__(scope, receive, request.send)
        except Exception as error:
            if request.has_begun:
                raise
            self.state.policy.log.error("%s failed", scope["method"], exc_info=error)
            await request.refuse(500, "internal_error", "this request could not be handled; the log says why")
        finally:
            request.finish()
            correlation_id.reset(token)

    def _allowed(self, path: str) -> set[str]:
        """Return the methods that a path allows; none if the path does not exist."""
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
