"""The ASGI application: its routes, who is let in, and errors as JSON."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from litestar import Litestar
from litestar.datastructures import State
from litestar.openapi.config import OpenAPIConfig
from litestar.types import ControllerRouterHandler

from ..service import Health
from . import errors

MODULES = ("ingest", "jobs", "reading", "domains", "exporting", "profile", "administration", "probes")
"""The modules of this package whose ``ROUTES`` are served."""


def routes(modules: Sequence[str] = MODULES) -> list[ControllerRouterHandler]:
    """Return the handlers of ``modules``."""
    return [handler for name in modules for handler in importlib.import_module(f"{__package__}.{name}").ROUTES]


def build(health: Health, modules: Sequence[str] = MODULES) -> Litestar:
    """Return the application that serves the routes of ``modules``.

    A handler says in ``opt`` who may call it: ``opt={"scope": "read", "limit": "read"}``, or ``opt={"public": True}``.
    The gate refuses the others before a handler runs; ``request.user`` is the Caller.
    """
    from ..access.gate import GateMiddleware

    handlers: Any = errors.HANDLERS
    return Litestar(
        route_handlers=routes(modules),
        middleware=[GateMiddleware],
        exception_handlers=handlers,
        state=State({"health": health}),
        openapi_config=OpenAPIConfig(title="Penstock health", version="1", path="/api/v1", render_plugins=[]),
        logging_config=None,
    )
