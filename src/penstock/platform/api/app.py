"""The API of the platform as an ASGI application."""

from __future__ import annotations

import logging

from litestar import Litestar

from ..access.middleware import GateMiddleware
from ..web import api
from ..web.exchange import WebPolicy
from . import deadletters, keys, sessions, sql, streams, tables
from .service import ROOT, PlatformService


def build(service: PlatformService) -> Litestar:
    """Return the application that serves all routes; ``request.user`` of a handler is the Caller."""
    policy = WebPolicy(
        logging.getLogger("penstock.platform"),
        address=service.installation.address,
        trusted_proxies=service.gate.options.trusted_proxies,
    )
    return api.build(
        "Penstock",
        [*streams.ROUTES, *keys.ROUTES, *sessions.ROUTES, *deadletters.ROUTES, *tables.ROUTES, *sql.ROUTES],
        policy,
        openapi_path=f"{ROOT}/openapi.json",
        key="A key made by `penstock keys create`; pages use the cookie of a session.",
        middleware=[GateMiddleware],
        state={"platform": service, "gate": service.gate, "application": "platform"},
    )
