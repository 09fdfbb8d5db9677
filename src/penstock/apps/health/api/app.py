"""The API of the health service: its routes, and how they are served."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from litestar import Litestar
from litestar.types import ControllerRouterHandler

from ....platform.web import api
from ....platform.web.bodies import BytesInFlight
from ....platform.web.exchange import WebPolicy
from .. import metrics
from ..scopes import NAME
from ..service import Health

MODULES = (
    "ingest",
    "ingests",
    "quarantine",
    "jobs",
    "erasing",
    "reading",
    "domains",
    "finding",
    "exporting",
    "owning",
    "priorities",
    "profile",
    "administration",
    "documentation",
    "probes",
)
"""The modules of this package whose ``ROUTES`` are served."""

_PROBES = ("/health/", "/ready", "/metrics")


def routes(modules: Sequence[str] = MODULES) -> list[ControllerRouterHandler]:
    """Return the handlers of ``modules``."""
    return [handler for name in modules for handler in importlib.import_module(f"{__package__}.{name}").ROUTES]


def state_of(health: Health) -> dict[str, Any]:
    """Return what the routes of ``health`` work with."""
    settings = health.settings
    policy = WebPolicy(
        logging.getLogger("penstock.health"),
        allowed_origins=settings.allowed_origins,
        address=settings.address,
        trusted_proxies=settings.trusted_proxies,
        probes=_PROBES,
    )
    return {
        "health": health,
        "gate": health.gate,
        "application": NAME,
        "in_flight": BytesInFlight(settings.max_accepting_bytes, partial(metrics.refused, "accepting")),
        "policy": policy,
    }


def build(health: Health, modules: Sequence[str] = MODULES) -> Litestar:
    """Return the application that serves the routes of ``modules``; ``request.user`` of a handler is the Caller."""
    from ....platform.access.gate import GateMiddleware

    state = state_of(health)
    return api.build(
        "Penstock health",
        routes(modules),
        state["policy"],
        openapi_path="/api/v1/openapi.json",
        key="A key made by `penstock keys create`.",
        middleware=[GateMiddleware],
        state=state,
    )
