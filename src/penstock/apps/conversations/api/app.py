"""The API of conversations as an ASGI application."""

from __future__ import annotations

import logging

from litestar import Litestar

from ....platform.access.gate import Gate
from ....platform.access.middleware import GateMiddleware
from ....platform.web import api
from ....platform.web.exchange import WebPolicy
from ..scopes import NAME
from . import compatible, routes
from .service import Service


def build(service: Service, gate: Gate, address: str) -> Litestar:
    """Return the application that serves all routes at ``address``; ``request.user`` of a handler is the Caller."""
    policy = WebPolicy(
        logging.getLogger("penstock.conversations"), address=address, trusted_proxies=gate.options.trusted_proxies
    )
    return api.build(
        "Penstock conversations",
        [*routes.ROUTES, *compatible.ROUTES],
        policy,
        openapi_path="/api/conversations/openapi.json",
        key="A key made by `penstock keys create --scope conversations.read`.",
        middleware=[GateMiddleware],
        state={"conversations": service, "gate": gate, "application": NAME},
    )
