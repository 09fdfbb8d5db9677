"""How fast the block of five hours that runs now is used up, and where it and the month will end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

import msgspec
from sqlalchemy import Connection

from ..prices import Prices
from .usage import BLOCK, By, usage


class Burn(msgspec.Struct, frozen=True, kw_only=True):
    """What is used of the block that runs, and of the month; costs are those of models whose price is known."""

    started_at: datetime | None
    """When the block began; None if none runs."""
    ends_at: datetime | None
    tokens: int
    cost_usd: float
    tokens_per_minute: float
    cost_per_hour: float
    projected_cost_usd: float
    """What the block costs at its end, if it goes on like this."""
    month_cost_usd: float
    projected_month_cost_usd: float


def measure_burn(connection: Connection, prices: Prices, now: datetime, zone: tzinfo = UTC) -> Burn:
    """Return how fast tokens are used."""
    month = now.astimezone(zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (month + timedelta(days=32)).replace(day=1)
    spent = sum(one.cost_usd for one in usage(connection, By.MONTHLY, prices, zone, since=month))
    share = (now - month) / (following - month)
    blocks = usage(connection, By.BLOCKS, prices, since=now - 4 * BLOCK, before=now)
    start = datetime.fromisoformat(blocks[-1].key) if blocks else None
    running = blocks[-1] if start is not None and now < start + BLOCK else None
    minutes = max(1.0, (now - running.first_at).total_seconds() / 60) if running is not None else 1.0
    tokens, cost = (running.tokens.total, running.cost_usd) if running is not None else (0, 0.0)
    end = start + BLOCK if running is not None and start is not None else None
    left = (end - now).total_seconds() / 60 if end is not None else 0.0
    return Burn(
        started_at=start if running is not None else None,
        ends_at=end,
        tokens=tokens,
        cost_usd=round(cost, 6),
        tokens_per_minute=round(tokens / minutes, 3),
        cost_per_hour=round(cost / minutes * 60, 6),
        projected_cost_usd=round(cost + cost / minutes * left, 6),
        month_cost_usd=round(spent, 6),
        projected_month_cost_usd=round(spent / share if share > 0 else spent, 6),
    )
