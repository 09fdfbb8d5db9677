"""What was used, as JSON shows it."""

from __future__ import annotations

import msgspec

from ..prices import Tokens
from ..reading.usage import Used


class UsedOf(msgspec.Struct):
    """What was used, and what of it has no known price."""

    key: str
    first_at: str
    last_at: str
    responses: int
    tokens: Tokens
    cost_usd: float
    models: list[str]
    unpriced: list[str]


def describe(one: Used) -> UsedOf:
    """Return what was used as JSON shows it."""
    return UsedOf(
        one.key,
        one.first_at.isoformat(),
        one.last_at.isoformat(),
        one.responses,
        one.tokens,
        round(one.cost_usd, 6),
        sorted(one.models),
        sorted(one.unpriced),
    )
