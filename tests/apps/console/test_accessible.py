"""Every view at both widths in both themes: axe finds nothing, and nothing is wider than the window.

With `PENSTOCK_SCREENSHOTS` a picture of each is kept in the folder that it names, which `make screenshots` does.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, expect

from .conftest import WIDTHS, Site, Watched, is_too_wide

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(300)]

VENDOR = Path(__file__).parent / "vendor"
SHOTS = os.environ.get("PENSTOCK_SCREENSHOTS", "")


class View(NamedTuple):
    """A view, and what is on it once it is there."""

    name: str
    fragment: str
    shown: Callable[[Page], Locator]
    run: bool = False
    """Whether it shows the result of a query, which has to be run."""


def heading(name: str) -> Callable[[Page], Locator]:
    return lambda page: page.get_by_role("heading", name=name, level=1, exact=True)


def table(name: str) -> Callable[[Page], Locator]:
    return lambda page: page.get_by_role("table", name=name).get_by_role("cell").first


def labelled(name: str) -> Callable[[Page], Locator]:
    return lambda page: page.get_by_label(name, exact=True)


QUERY = "#/sql?sql=" + quote("SELECT at, celsius, lat, lon, sensor FROM stations ORDER BY at")
VIEWS = [
    View("overview", "#/", table("From where, today")),
    View("guide", "#/?guide=1", heading("Bring data in")),
    View("lineage", "#/lineage", heading("Lineage")),
    View("lineage-stream", "#/lineage/stream%3Aingest", heading("Lineage")),
    View("streams", "#/streams", lambda page: page.get_by_role("link", name="ingest", exact=True)),
    View("stream", "#/streams/ingest", lambda page: page.get_by_role("group", name="What the stream is made of")),
    View("stream-positions", "#/streams/inbox?tab=positions", heading("inbox")),
    View("stream-configuration", "#/streams/ingest?tab=configuration", lambda page: page.locator(".source")),
    View("stream-log", "#/streams/ingest?tab=log", labelled("Log lines")),
    View("tables", "#/tables", table("Tables of rows")),
    View("table", "#/tables/rows/stations", table("Rows of stations")),
    View("table-values", "#/tables/rows/stations?facet=sensor", labelled("Values of sensor")),
    View("table-schema", "#/tables/rows/stations?tab=schema", table("Columns")),
    View("sql", "#/sql", lambda page: page.locator(".sql-editor .cm-content")),
    View("sql-table", QUERY, table("Result"), run=True),
    View("sql-chart", f"{QUERY}&as=chart", lambda page: page.locator(".chart canvas"), run=True),
    View("sql-map", f"{QUERY}&as=map", lambda page: page.locator(".map [data-drawn='28'] canvas"), run=True),
    View("dead-letters", "#/dead-letters", lambda page: page.get_by_role("button", name="Mend and send all…").first),
    View("keys", "#/access", table("Keys")),
    View("sessions", "#/access?tab=sessions", table("Sessions")),
    View("users", "#/access?tab=users", table("Users")),
    View("audit", "#/access?tab=audit", table("Audit")),
]


@pytest.fixture(scope="module")
def furnished(site: Site) -> None:
    """Have rows in a table, one that was refused, a file that was read, and a key."""
    rows = [
        {"sensor": f"station {n % 4}", "celsius": 10 + n % 7, "at": f"2026-11-{n + 1:02d}T12:00:00Z"}
        | {"lat": 47.5 + n / 9, "lon": 7 + n / 5}
        for n in range(28)
    ]
    site.send("stations", *rows)
    site.send("stations", {"sensor": "station 1", "celsius": "warm"})
    folder = site.folder / "inbox" / "dropped"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text('{"a": 1}\n')
    assert site.call("POST", "/api/platform/v1/keys", {"name": "greenhouse"})[0] == 201


def faults(page: Page) -> list[str]:
    """Return what axe finds, by rule and place."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate((VENDOR / "axe.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{rule['id']}: {node['target']}" for rule in found["violations"] for node in rule["nodes"]]


def test_axe_is_what_its_manifest_says() -> None:
    [one] = json.loads((VENDOR / "manifest.json").read_text())
    assert hashlib.sha256((VENDOR / one["name"]).read_bytes()).hexdigest() == one["sha256"]


@pytest.mark.usefixtures("furnished")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_views_are_accessible_and_fit(site: Site, console: Callable[..., Watched], scheme: str) -> None:
    page, complaints = console("#/", "desktop", scheme)
    found: dict[str, list[str]] = {}
    for view in VIEWS:
        page.goto(f"{site.url}/#/nowhere")  # so that nothing of the view before is taken for this one
        expect(heading("Not here")(page)).to_be_visible()
        page.goto(f"{site.url}/{view.fragment}")
        if view.run:
            page.get_by_role("button", name="Run").click()
        for size, viewport in WIDTHS.items():
            page.set_viewport_size(viewport)  # type: ignore[arg-type]
            expect(view.shown(page)).to_be_visible()
            expect(page.locator(".loading")).to_have_count(0)
            if SHOTS:
                page.screenshot(path=Path(SHOTS) / f"{view.name}-{size}-{scheme}.png")
            assert not complaints, view.name
            wide = ["wider than the window"] if is_too_wide(page) else []
            found[f"{view.name}, {size}"] = faults(page) + wide
            complaints.clear()  # axe tries inline styles, which the policy refuses
    assert {name: faults for name, faults in found.items() if faults} == {}
