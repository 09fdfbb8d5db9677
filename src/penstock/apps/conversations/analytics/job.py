"""The pipeline as a job of the application: what is new each hour, and all of it anew each day."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from ....application import Job
from ..prices import Prices

if TYPE_CHECKING:
    from ....platform.application import Platform

HOURLY = 3600.0
DAILY = 86400.0


def jobs(prices: Path | None) -> list[Job]:
    """Return the hourly and the daily job."""

    async def refresh(platform: Platform) -> None:
        await asyncio.to_thread(run, platform, prices, is_full=False)

    async def rebuild(platform: Platform) -> None:
        await asyncio.to_thread(run, platform, prices, is_full=True)

    return [Job("analytics_hourly", HOURLY, refresh), Job("analytics_daily", DAILY, rebuild)]


def run(platform: Platform, prices: Path | None, *, is_full: bool) -> None:
    """Extract, load and transform what is new; raises PenstockError. A full run builds the warehouse anew."""
    from .lake import Lake
    from .models import transform
    from .settings import read_settings
    from .warehouse import building, load

    settings = read_settings(platform.installation.data, platform.installation.environment)
    lake = Lake(settings)
    rows = lake.extract(platform.database)
    if is_full:
        lake.compact()
        lake.expire()
    with building(settings, is_new=is_full) as connection:
        load(connection, lake, platform.database, Prices.load(prices))
        built = transform(connection, settings, is_full=is_full)
    platform.log.info("analytics: %d rows are new, %d models were built", rows, len(built))
