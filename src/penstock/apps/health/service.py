"""The parts of the running service, as its routes find them in ``request.app.state.health``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...platform.database import Database
from .settings import Settings

if TYPE_CHECKING:
    from ...platform.access.gate import Gate
    from ...platform.outcomes import Outcomes
    from .acceptance import Outcome
    from .raw import Raw


@dataclass(frozen=True)
class Health:
    """What the routes work with."""

    settings: Settings
    database: Database
    access: Database
    """Where keys and the audit are."""
    raw: Raw
    gate: Gate
    outcomes: Outcomes[Outcome]
    """Which ingests are under way, and what became of them."""
