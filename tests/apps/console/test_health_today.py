"""Today in the console: sums of days, last night, and the trend against the usual."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import expect

from .conftest import Site, Watched, is_too_wide, penstock
from .test_accessible import faults

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(240)]

DAYS = 29


def _export() -> str:
    """Return what a phone sends: two buckets of steps a day, a night and a weight, each the same but for yesterday."""
    noon = datetime.now().astimezone().replace(hour=12, minute=0, second=0, microsecond=0)

    def at(ago: int, hour: int) -> str:
        return (noon - timedelta(days=ago)).replace(hour=hour).strftime("%Y-%m-%d %H:%M:%S %z")

    steps = [
        {"date": at(ago, hour), "qty": 4000 if ago == 1 else 2000, "source": "iPhone"}
        for ago in range(DAYS)
        for hour in (9, 10)
    ]
    weights = [{"date": at(ago, 7), "qty": 72.5, "source": "scale"} for ago in range(DAYS)]
    nights = [
        {
            **{"date": at(ago, 0), "source": "watch", "sleepStart": at(ago + 1, 23), "sleepEnd": at(ago, 7)},
            **{"inBedStart": at(ago + 1, 23), "inBedEnd": at(ago, 7), "inBed": 8, "totalSleep": 7.5, "asleep": 0},
            **{"core": 4, "deep": 1.5, "rem": 2, "awake": 0.5},
        }
        for ago in range(DAYS - 1)
    ]
    metrics = [
        {"name": "step_count", "units": "count", "data": steps},
        {"name": "weight_body_mass", "units": "kg", "data": weights},
        {"name": "sleep_analysis", "units": "hr", "data": nights},
    ]
    return json.dumps({"data": {"metrics": metrics}})


@pytest.fixture(scope="module")
def phone(site: Site) -> None:
    key = penstock(site.folder, "keys", "create", "--name", "phone", "--scope", "health.ingest")
    status, _, _ = site.call(
        "POST", "/api/v1/ingest", _export(), {"authorization": f"Bearer {key}", "cookie": "none=0"}
    )
    assert status == 200


@pytest.mark.usefixtures("phone")
@pytest.mark.parametrize(("size", "scheme"), [("phone", "dark"), ("desktop", "light")])
def test_it_shows_totals_of_days_and_their_trend(console: Callable[..., Watched], size: str, scheme: str) -> None:
    page, complaints = console("#/health", size, scheme)
    cards = page.get_by_role("listitem")
    steps = cards.filter(has=page.get_by_role("heading", name="Steps"))
    expect(steps).to_contain_text("4,000")
    expect(steps).to_contain_text("so far today")
    expect(steps).to_contain_text("Yesterday 100 % above the usual")
    weight = cards.filter(has=page.get_by_role("heading", name="Weight"))
    expect(weight).to_contain_text("72.5")
    expect(weight).to_contain_text("About as usual")
    sleep = cards.filter(has=page.get_by_role("heading", name="Sleep"))
    expect(sleep).to_contain_text("7 h 30 min")
    assert not is_too_wide(page)
    assert not complaints
    assert faults(page) == []
    steps.get_by_role("link", name="Steps").click()
    page.wait_for_url("**/health-data#/metrics/step_count")
    expect(page.locator(".frame-bar nav")).to_be_attached()
    expect(page.locator("#user")).to_have_text("me")
