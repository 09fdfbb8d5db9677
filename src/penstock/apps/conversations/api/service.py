"""The parts of the service, as its routes find them in ``request.app.state.conversations``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from litestar import Request

from ....platform.access.caller import Caller
from ....platform.database import Database
from ....platform.web.events import LiveState
from ..analytics.settings import Settings
from ..prices import Prices
from ..redaction import Redaction

Asked = Request[Caller, Any, Any]


@dataclass(frozen=True)
class Service:
    """What the routes work with."""

    database: Database
    prices: Prices
    redaction: Redaction
    """What is taken out of files that are downloaded."""
    settings: Settings
    """Where the warehouse is."""
    live: LiveState
    """What tells pages which sessions have new lines."""


def service(request: Request[Any, Any, Any]) -> Service:
    """Return the parts of the service."""
    return cast(Service, request.app.state.conversations)
