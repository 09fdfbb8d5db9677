"""Every view at both widths in both themes: axe finds nothing, and nothing is wider than the window."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .conftest import Watched, is_too_wide

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(300)]

VENDOR = Path(__file__).parent / "vendor"
VIEWS = {
    "#/": "Overview",
    "#/lineage": "Lineage",
    "#/lineage/stream%3Aingest": "Lineage",
    "#/?guide=1": "",
    "#/streams": "Streams",
    "#/streams/ingest": "ingest",
    "#/streams/ingest?tab=positions": "ingest",
    "#/streams/ingest?tab=configuration": "ingest",
    "#/streams/ingest?tab=log": "ingest",
}


def faults(page: Page) -> list[str]:
    """Return what axe finds, by rule and place."""
    page.evaluate((VENDOR / "axe.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{rule['id']}: {node['target']}" for rule in found["violations"] for node in rule["nodes"]]


def test_axe_is_what_its_manifest_says() -> None:
    [one] = json.loads((VENDOR / "manifest.json").read_text())
    assert hashlib.sha256((VENDOR / one["name"]).read_bytes()).hexdigest() == one["sha256"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_views_are_accessible_and_fit(console: Callable[..., Watched], size: str, scheme: str) -> None:
    page, complaints = console("#/", size, scheme)
    for fragment, title in VIEWS.items():
        page.goto(f"{page.url.partition('#')[0]}{fragment}")
        heading = page.get_by_role("heading", level=1)
        expect(heading).to_have_text(title) if title else expect(heading).to_be_visible()
        expect(page.locator(".loading")).to_have_count(0)
        assert not is_too_wide(page), fragment
        assert not complaints, fragment
        assert faults(page) == [], fragment
        complaints.clear()  # axe tries inline styles, which the policy refuses
