"""The scopes of health: what its keys may be good for."""

from __future__ import annotations

from collections.abc import Sequence

from ...platform.access.scopes import Scope
from .settings import Settings

NAME = "health"


def declared(settings: Settings | None = None) -> Sequence[Scope]:
    """Return the scopes with the limits of ``settings``; the short names are those of older versions."""
    limits = settings or Settings()
    return (
        Scope(
            "health.ingest", "Send exports and workouts.", limits.ingest, is_default=True, aliases=("ingest", "write")
        ),
        Scope("health.read", "Read what was sent.", limits.read, aliases=("read",), tables="own"),
        Scope("health.export", "Export it as files.", limits.export, aliases=("export",)),
        Scope("health.admin", "Look after keys and data of the own user.", limits.admin, aliases=("admin",)),
    )
