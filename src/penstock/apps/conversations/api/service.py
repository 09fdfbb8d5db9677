"""The parts of the service, as its routes find them in ``request.app.state.conversations``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from litestar import Request

from ....platform.access.caller import Caller
from ....platform.database import Database
from ..prices import Prices

Asked = Request[Caller, Any, Any]


@dataclass(frozen=True)
class Service:
    """What the routes work with."""

    database: Database
    prices: Prices


def service(request: Request[Any, Any, Any]) -> Service:
    """Return the parts of the service."""
    return cast(Service, request.app.state.conversations)
