"""The gate of the routes of health."""

from __future__ import annotations

from ...platform.access.gate import Gate, Observer
from ...platform.access.options import AccessOptions
from ...platform.access.scopes import Scopes
from ...platform.database import Database
from . import metrics
from .scopes import NAME, declared
from .settings import Settings


def gate_of(settings: Settings, database: Database) -> Gate:
    """Return the gate of the routes, whose keys are in ``database``; it connects with the first request."""
    options = AccessOptions(
        redis_url=settings.redis_url,
        trusted_proxies=settings.trusted_proxies,
        by_address=settings.by_address,
        failures=settings.failures,
    )
    return Gate(options, Scopes(declared(settings)), database, observer=_Metrics())


class _Metrics(Observer):
    """Count requests among the metrics of health."""

    def authenticated(self, result: str, key: str = "key") -> None:
        metrics.authenticated(result, "none" if key == "none" else "hea")  # dashboards know this label

    def limited(self, limit: str) -> None:
        metrics.refused(limit.removeprefix(f"{NAME}."))
