"""What a person sees at the page, in a real browser and from a real service."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Locator, Page, Route, expect

from .conftest import DESKTOP, PHONE, Open, Site, Visit
from .sample import DAYS, HOSTILE, WORKOUT

pytestmark = pytest.mark.asyncio(loop_scope="session")

VIEWS = {
    "arrivals": "What arrived",
    "metrics": "Metrics",
    "metrics/heart_rate": "Heart rate",
    "sleep": "Sleep",
    f"workouts/{WORKOUT}": "Outdoor Run",
    "workouts": "Workouts",
    "quarantine": "Quarantine",
    "quality": "Quality",
    "keys": "Keys & limits",
}


async def settled(page: Page, title: str) -> Locator:
    """Wait until a view shows what it is to show, and return it."""
    view = page.locator("section.view")
    await expect(view.get_by_role("heading", level=2, name=title, exact=True)).to_be_visible()
    await expect(view.locator("[aria-busy]")).not_to_have_count(0)
    await expect(view.locator('[aria-busy="true"]')).to_have_count(0)
    return view


async def hacked(page: Page) -> bool:
    return bool(await page.evaluate("'hacked' in window"))


def data_row(place: Locator, text: str) -> Locator:
    return place.get_by_role("row").filter(has_text=text).first


async def test_a_key_opens_the_page_and_stays_in_the_tab(open_page: Open, site: Site) -> None:
    visit = await open_page()
    page = await visit.sign_in()
    await settled(page, "What arrived")
    assert site.key not in page.url
    stored = await page.evaluate("[Object.values(sessionStorage), Object.values(localStorage), document.cookie]")
    assert stored == [[site.key], [], ""]
    await page.reload()
    await settled(page, "What arrived")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("API key")).to_be_visible()
    assert await page.evaluate("sessionStorage.length") == 0
    await expect(page.locator("#view")).to_be_empty()
    await page.reload()
    await expect(page.get_by_label("API key")).to_be_visible()


async def test_a_wrong_key_is_refused_in_words(open_page: Open) -> None:
    visit = await open_page()
    visit.expected = ["401"]
    page = await visit.sign_in("hea_" + "0" * 40)
    await expect(page.get_by_role("alert").filter(has_text="This key is not accepted")).to_be_visible()
    await page.get_by_label("API key").fill("a key with spaces")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert").filter(has_text="without spaces")).to_be_visible()
    assert await page.evaluate("sessionStorage.length") == 0


async def test_a_key_that_ends_leads_back_to_the_sign_in(open_page: Open, site: Site) -> None:
    made = site.call("POST", "/api/v1/auth/keys", {"name": "short-lived", "scopes": ["read"]})["data"]
    visit = await open_page()
    visit.expected = ["401"]
    page = await visit.sign_in(made["key"])
    await settled(page, "What arrived")
    site.call("DELETE", f"/api/v1/auth/keys/{made['id']}")
    await page.get_by_role("link", name="Metrics").click()
    await expect(page.get_by_role("alert").filter(has_text="This key is not accepted")).to_be_visible()
    await expect(page.get_by_role("navigation", name="Views")).to_be_hidden()


async def test_what_arrived_shows_counts_and_details(open_page: Open, site: Site) -> None:
    visit = await open_page()
    page = await visit.sign_in()
    view = await settled(page, "What arrived")
    told = site.call("GET", f"/api/v1/ingest/{site.ingest}")
    assert told["received"] == told["stored"] + told["updated"] + told["unchanged"] + told["quarantined"]
    opener = view.locator("button.opener").last
    row = view.locator("tr:has(button.opener)").last
    await expect(row).to_contain_text("Every hour")
    await expect(row).to_contain_text("Stored")
    await expect(row).to_contain_text(f"{told['received']:,}")
    await expect(view.get_by_role("img", name="Points by day of arrival")).to_be_visible()
    await expect(view.locator(".strip rect.quarantined")).not_to_have_count(0)
    await opener.focus()
    await page.keyboard.press("Enter")
    await expect(opener).to_have_attribute("aria-expanded", "true")
    types = view.get_by_role("table", name="What became of the points, by type")
    await expect(data_row(types, "Heart rate")).to_contain_text(str(told["types"]["heart_rate"]["received"]))
    await expect(view.locator("dd").filter(has_text=site.ingest)).to_be_visible()


async def test_pages_of_arrivals_are_turned(open_page: Open, site: Site) -> None:
    listed = site.call("GET", "/api/v1/ingests?limit=1")["data"]
    many = [listed[0] | {"id": f"{number:032x}"} for number in range(150)]

    async def answer(route: Route) -> None:
        at = int(route.request.url.partition("cursor=")[2].partition("&")[0] or 0)
        following = str(at + 100) if at + 100 < len(many) else None
        await route.fulfill(json={"success": True, "data": many[at : at + 100], "next_cursor": following})

    visit = await open_page()
    await visit.page.route("**/api/v1/ingests?*", answer)
    page = await visit.sign_in()
    view = await settled(page, "What arrived")
    openers = view.locator("button.opener")
    await expect(openers).to_have_count(100)
    pages = view.get_by_role("navigation", name="Pages of arrivals")
    await pages.get_by_role("button", name="Next").click()
    await expect(openers).to_have_count(50)
    await expect(pages.get_by_role("button", name="Next")).to_be_disabled()
    await pages.get_by_role("button", name="Previous").click()
    await expect(openers).to_have_count(100)


async def test_metrics_are_searched(open_page: Open, site: Site) -> None:
    known = {row["name"]: row for row in site.call("GET", "/api/v1/metrics")["data"]}
    visit = await open_page()
    page = await visit.sign_in(view="metrics")
    view = await settled(page, "Metrics")
    table = view.get_by_role("table", name="Metrics")
    await expect(table.get_by_role("row")).to_have_count(len(known) + 1)
    steps = data_row(table, "step_count")
    await expect(steps).to_contain_text(f"{known['step_count']['count']:,}")
    await expect(steps).to_contain_text(known["step_count"]["unit"])
    await view.get_by_label("Search").fill("HEART rate heart_rate")
    await expect(table).to_contain_text("heart_rate")
    await expect(table).not_to_contain_text("step_count")
    await view.get_by_label("Search").fill("nothing is called so")
    await expect(view.get_by_text("No metric is called so.")).to_be_visible()


async def test_a_mean_is_a_line_in_a_band(open_page: Open) -> None:
    visit = await open_page()
    page = await visit.sign_in(view="metrics")
    view = await settled(page, "Metrics")
    await data_row(view, "heart_rate").get_by_role("link").click()
    await settled(page, "Heart rate")
    chart = view.get_by_role("group", name="mean by day")
    await expect(chart.locator("path.line")).to_have_count(1)
    await expect(chart.locator("path.band")).to_have_count(1)
    await view.get_by_text("The values as a table").click()
    rows = view.get_by_role("table", name="The values of the chart").get_by_role("row")
    await expect(rows).to_have_count(DAYS + 1)
    await expect(rows.nth(1)).to_contain_text("31 Jan 2026")
    await view.get_by_role("button", name="Week").click()
    await expect(view.get_by_role("group", name="mean by hour")).to_be_visible()
    await expect(view.get_by_role("button", name="Week")).to_have_attribute("aria-pressed", "true")
    await view.get_by_role("button", name="All").click()
    await expect(view.get_by_role("group", name="mean by day")).to_be_visible()
    await view.get_by_label("From").fill("2024-01-01")
    await expect(view.get_by_role("group", name="mean by week")).to_be_visible()
    await expect(view.get_by_role("button", name="All")).to_have_attribute("aria-pressed", "false")


async def test_a_range_may_be_empty(open_page: Open) -> None:
    visit = await open_page()
    page = await visit.sign_in(view="metrics/weight_body_mass")
    view = await settled(page, "Weight")
    await expect(view.locator("circle.dot")).to_have_count(4)
    await view.get_by_label("From").fill("2026-01-21")
    await view.get_by_label("To").fill("2026-01-22")
    await expect(view.get_by_text("There are no points in this range.")).to_be_visible()
    await view.get_by_role("button", name="All").click()
    await expect(view.locator("circle.dot")).to_have_count(4)
    await view.get_by_label("To").fill("2024-02-01")  # long before the first point
    await expect(view.get_by_label("From")).to_have_value("2024-02-01")
    await expect(view.get_by_text("There are no points in this range.")).to_be_visible()


async def test_a_sum_is_bars_and_says_its_values(open_page: Open, site: Site) -> None:
    window = "by=day&timezone=Europe/Berlin&start=2026-01-25T00:00:00%2B01:00&end=2026-01-26T00:00:00%2B01:00"
    (bucket,) = site.call("GET", f"/api/v1/metrics/step_count/aggregate?{window}")["data"]
    visit = await open_page()
    page = await visit.sign_in(view="metrics/step_count")
    view = await settled(page, "Steps")
    chart = view.get_by_role("group", name="sum by day")
    await expect(chart.locator("rect.bar")).to_have_count(DAYS)
    bar = chart.locator("rect.bar").nth(5)
    await bar.hover()
    tip = chart.locator(".tip")
    await expect(tip).to_contain_text("25 Jan 2026")
    await expect(tip).to_contain_text(f"{bucket['sum']:,.0f}")
    await page.mouse.move(0, 0)
    await expect(tip).to_be_hidden()
    await chart.focus()
    await page.keyboard.press("Home")
    await expect(tip).to_contain_text("20 Jan 2026")
    await page.keyboard.press("ArrowRight")
    await expect(tip).to_contain_text("21 Jan 2026")
    await expect(view.locator("figure [aria-live]")).to_contain_text("21 Jan 2026")


async def test_blood_pressure_is_two_lines(open_page: Open) -> None:
    visit = await open_page()
    page = await visit.sign_in(view="metrics/blood_pressure")
    view = await settled(page, "Blood pressure")
    await expect(view.locator("path.line")).to_have_count(2)
    await expect(view.locator("figcaption")).to_contain_text("systolic")
    await expect(view.locator("figcaption")).to_contain_text("diastolic")


async def test_single_points_are_shown_page_by_page(open_page: Open) -> None:
    visit = await open_page()
    page = await visit.sign_in(view="metrics/heart_rate")
    view = await settled(page, "Heart rate")
    await view.get_by_text("Single points, newest first").click()
    rows = view.get_by_role("table", name="Single points").get_by_role("row")
    await expect(rows).to_have_count(51)
    await expect(rows.nth(1)).to_contain_text("31 Jan 2026")
    await expect(rows.nth(1)).to_contain_text("Watch")
    await view.get_by_role("navigation", name="Pages of points").get_by_role("button", name="Next").click()
    await expect(rows.nth(1)).to_contain_text("29 Jan 2026")


async def test_a_range_is_downloaded(open_page: Open, tmp_path: Path) -> None:
    visit = await open_page()
    page = await visit.sign_in(view="metrics/step_count")
    view = await settled(page, "Steps")
    files = {}
    for format in ("CSV", "Parquet", "JSON"):
        async with page.expect_download() as download:
            await view.get_by_role("button", name=format, exact=True).click()
        found = await download.value
        assert found.suggested_filename == f"step_count_2026-01-02_2026-01-31.{format.lower()}"
        await found.save_as(tmp_path / format)
        files[format] = (tmp_path / format).read_bytes()
    points = json.loads(files["JSON"])
    assert len(points) == DAYS * 16
    assert len(list(csv.DictReader(files["CSV"].decode().splitlines()))) == len(points)
    assert files["Parquet"][:4] == files["Parquet"][-4:] == b"PAR1"


async def test_nights_have_their_stages(open_page: Open, site: Site) -> None:
    nights = site.call("GET", "/api/v1/sleep/nights?start=2026-01-15&end=2026-02-01&timezone=Europe/Berlin")["data"]
    assert [night["night"] for night in nights] == ["2026-01-21", "2026-01-22", "2026-01-23"]
    visit = await open_page()
    page = await visit.sign_in(view="sleep")
    view = await settled(page, "Sleep")
    shown = view.get_by_role("article")
    await expect(shown).to_have_count(3)
    newest = shown.first
    await expect(newest.get_by_role("heading")).to_contain_text("23 Jan 2026")
    await expect(newest.get_by_role("heading")).to_contain_text("6 h 17 min asleep")
    await expect(newest.locator("rect.stage")).to_have_count(12)
    await expect(newest.locator("rect.stage-deep")).to_have_count(2)
    await expect(newest.locator("dl")).to_contain_text("1 h 06 min")
    await newest.get_by_text("The stages as a table").click()
    await expect(newest.get_by_role("row")).to_have_count(13)
    await view.get_by_role("button", name="Earlier").click()
    await expect(view.get_by_text("No sleep was recorded from")).to_be_visible()
    await view.get_by_role("button", name="Later").click()
    await expect(shown).to_have_count(3)


async def test_a_workout_has_its_heart_rate_and_its_route(open_page: Open, tmp_path: Path) -> None:
    visit = await open_page()
    page = await visit.sign_in(view="workouts")
    view = await settled(page, "Workouts")
    row = data_row(view, "Outdoor Run")
    await expect(row).to_contain_text("30 min")
    await expect(row).to_contain_text("5.02 km")
    await row.get_by_role("link").click()
    await settled(page, "Outdoor Run")
    await expect(view.get_by_role("group", name="Heart rate over the workout").locator("path.line")).to_have_count(1)
    plan = view.get_by_role("img", name="Route of Outdoor Run")
    await expect(plan.locator("path.route")).to_have_count(1)
    await expect(plan.locator("circle.start")).to_be_visible()
    await expect(plan.locator("rect.end")).to_be_visible()
    await expect(plan.locator(".scale text")).to_have_text("500 m")
    for format, beginning in (("GPX", b"<?xml"), ("GeoJSON", b"{")):
        async with page.expect_download() as download:
            await view.get_by_role("button", name=format, exact=True).click()
        found = await download.value
        assert found.suggested_filename == f"Outdoor_Run_2026-01-25.{format.lower()}"
        await found.save_as(tmp_path / format)
        assert (tmp_path / format).read_bytes().startswith(beginning)


async def test_the_map_keeps_the_shape_of_the_ground(open_page: Open) -> None:
    visit = await open_page()
    page = await visit.sign_in(view=f"workouts/{WORKOUT}")
    view = await settled(page, "Outdoor Run")
    drawn = await view.locator("path.route").evaluate(
        "route => { const { width, height } = route.getBBox(); return [width, height]; }"
    )
    # 0.0245 degrees of longitude at 52.5 degrees north are 1.66 km, 0.0127 of latitude 1.41 km.
    assert drawn[0] / drawn[1] == pytest.approx(1.66 / 1.41, rel=0.05)


async def test_a_quarantined_point_is_tried_again(open_page: Open, site: Site) -> None:
    visit = await open_page()
    page = await visit.sign_in(view="quarantine")
    view = await settled(page, "Quarantine")
    point = view.get_by_role("article", name="Step count").first
    (held,) = site.call("GET", "/api/v1/quarantine")["data"]
    await expect(point).to_contain_text(held["path"])
    await expect(point).to_contain_text(held["reason"])
    await point.get_by_text("What was sent").click()
    await expect(point.locator("pre")).to_contain_text(f'"source": "{HOSTILE}"')
    before = site.call("GET", f"/api/v1/ingest/{site.ingest}")["attempt"]
    await point.get_by_role("button", name="Retry").click()
    await expect(point.get_by_role("status")).to_contain_text("Still not stored")
    assert site.call("GET", f"/api/v1/ingest/{site.ingest}")["attempt"] == before + 1
    await view.get_by_role("button", name="Retry all of this arrival").click()
    await expect(view.get_by_text(f"Done, attempt {before + 2}:")).to_be_visible()
    assert not await hacked(page)


async def test_a_point_that_can_be_stored_by_now_is_said_to_be(open_page: Open) -> None:
    async def stored(route: Route) -> None:
        answer = await route.fetch()
        said = await answer.json()
        quarantined = said | {"quarantined": 0, "stored": said["stored"] + 1, "quarantined_points": []}
        await route.fulfill(response=answer, json=quarantined)

    visit = await open_page()
    await visit.page.route("**/api/v1/ingest/*", stored)
    page = await visit.sign_in(view="quarantine")
    point = (await settled(page, "Quarantine")).get_by_role("article", name="Step count").first
    await point.get_by_role("button", name="Retry").click()
    await expect(point.get_by_text("It is stored now.")).to_be_visible()
    await expect(point.get_by_role("button", name="Retry")).to_have_count(0)


async def test_quality_says_its_score_and_findings(open_page: Open, site: Site) -> None:
    report = {
        "time": "2026-02-01T12:00:00Z",
        "score": 73.4,
        "findings": [
            {
                "finding": "stale",
                "message": f"no value for {HOSTILE}",
                "metric": "step_count",
                "last": "2026-01-31T22:00:00Z",
            },
            {"finding": "out_of_range", "message": "unlikely", "metric": HOSTILE, "share": 0.0123},
        ],
    }
    visit = await open_page()
    await visit.page.route(
        "**/api/v1/data-quality", lambda route: route.fulfill(json={"success": True, "data": report})
    )
    page = await visit.sign_in(view="quality")
    view = await settled(page, "Quality")
    await expect(view.get_by_role("img", name="Score 73 of 100")).to_be_visible()
    findings = view.get_by_role("listitem")
    await expect(findings).to_have_count(2)
    await expect(findings.first).to_contain_text(f"no value for {HOSTILE}")
    await expect(findings.last).to_contain_text("1.23 %")
    await expect(findings.first.get_by_role("link", name="Step count")).to_have_attribute(
        "href", "#/metrics/step_count"
    )
    assert not await hacked(page)


async def test_what_a_key_may_do_is_shown_and_keys_are_looked_after_elsewhere(open_page: Open, site: Site) -> None:
    visit = await open_page()
    visit.expected = ["401"]  # nobody is signed in there
    page = await visit.sign_in(view="keys")
    view = await settled(page, "Keys & limits")
    await expect(view.locator(".meter").filter(has_text="Requests this hour").first).to_contain_text("of 100,000")
    await expect(view.get_by_text("send data, read data, export files, manage keys")).to_be_visible()
    await view.get_by_role("link", name="the page of keys").click()
    await expect(page).to_have_title("Keys – Penstock")
    assert page.url == f"{site.origin}/keys"


async def test_a_reader_sees_no_keys_and_no_retry(open_page: Open, site: Site) -> None:
    visit = await open_page()
    page = await visit.sign_in(site.reader, view="keys")
    view = await settled(page, "Keys & limits")
    await expect(view.get_by_role("table")).to_have_count(0)
    await expect(view.get_by_role("button", name="Make a key")).to_have_count(0)
    await page.get_by_role("link", name="Quarantine").click()
    await settled(page, "Quarantine")
    await expect(view.get_by_role("article", name="Step count").first).to_be_visible()
    await expect(view.get_by_role("button", name="Retry")).to_have_count(0)


@pytest.mark.parametrize(
    ("status", "headers", "said", "again"),
    [
        (403, {}, "Your key may not do this. The server says: not for you", None),
        (429, {"retry-after": "90"}, "You can try again in 1 min 30 s", "disabled"),
        (503, {"retry-after": "1"}, "Nothing is lost; try again", "enabled"),
        (500, {}, "The server could not answer (500)", "enabled"),
    ],
)
async def test_refusals_are_told_in_words(
    open_page: Open, status: int, headers: dict[str, str], said: str, again: str | None
) -> None:
    visit = await open_page()
    visit.expected = [str(status)]
    refused: dict[str, Any] = {"success": False, "error": "refused", "message": "not for you", "data": None}
    await visit.page.route(
        "**/api/v1/metrics", lambda route: route.fulfill(status=status, headers=headers, json=refused)
    )
    page = await visit.sign_in(view="metrics")
    alert = page.get_by_role("alert").filter(has_text=said)
    await expect(alert).to_be_visible()
    button = alert.get_by_role("button", name="Try again")
    if again is None:
        await expect(button).to_have_count(0)
    elif again == "disabled":
        await expect(button).to_be_disabled()
    else:
        await page.unroute("**/api/v1/metrics")
        await button.click()
        await expect(page.get_by_role("table", name="Metrics")).to_be_visible()


async def test_an_unreachable_server_is_told_in_words(open_page: Open) -> None:
    visit = await open_page()
    visit.expected = ["ERR_FAILED"]
    await visit.page.route("**/api/v1/ingests?*", lambda route: route.abort())
    page = await visit.sign_in()
    await expect(page.get_by_role("alert").filter(has_text="The server cannot be reached")).to_be_visible()
    await page.unroute("**/api/v1/ingests?*")
    await page.get_by_role("button", name="Try again").click()
    await settled(page, "What arrived")


async def test_names_that_would_be_markup_stay_text(open_page: Open, site: Site) -> None:
    (name,) = [row["name"] for row in site.call("GET", "/api/v1/metrics")["data"] if row["name"].startswith("odd")]
    hostile = {
        "name": HOSTILE, "label": HOSTILE, "unit": HOSTILE, "aggregation": HOSTILE, "count": 1,
        "first": "2026-01-20T00:00:00Z", "last": "2026-01-20T00:00:00Z", "latest": {"time": HOSTILE, "value": 3},
    }  # fmt: skip
    visit = await open_page()
    await visit.page.route("**/api/v1/metrics", lambda route: route.fulfill(json={"success": True, "data": [hostile]}))
    page = await visit.sign_in(view="metrics")
    view = await settled(page, "Metrics")
    await expect(view.get_by_role("link", name=HOSTILE)).to_be_visible()
    await page.unroute("**/api/v1/metrics")
    await page.goto(f"{site.url}#/metrics/{quote(name, safe='')}")
    await expect(view.locator("dd code")).to_have_text(name)
    await view.get_by_text("Single points, newest first").click()
    await expect(view.get_by_role("table", name="Single points")).to_contain_text(HOSTILE)
    await expect(page.locator("img")).to_have_count(0)
    assert not await hacked(page)


async def test_the_address_may_say_anything(open_page: Open, site: Site) -> None:
    visit = await open_page()
    visit.expected = ["404"]
    page = await visit.sign_in(view=f"nowhere/{quote(HOSTILE)}")
    view = await settled(page, "What arrived")
    for address, said in (
        (f"metrics/{quote(HOSTILE, safe='')}", "There are no points of this metric."),
        (f"workouts/{quote(HOSTILE, safe='')}", "This is not here."),
        ("workouts/..", "Nothing can be found under the name"),
        ("metrics/%E0%A4%A", "There are no points of this metric."),
    ):
        await page.goto(f"{site.url}#/{address}")
        await expect(view.get_by_text(said)).to_be_visible()
    assert not await hacked(page)


async def test_the_page_is_used_with_the_keyboard(open_page: Open, site: Site) -> None:
    visit = await open_page()
    page = visit.page
    await page.goto(site.url)
    await expect(page.get_by_label("API key")).to_be_focused()
    await page.keyboard.type(site.key)
    await page.keyboard.press("Enter")
    await settled(page, "What arrived")
    await expect(page.get_by_role("heading", level=2)).to_be_focused()
    for _ in range(6):
        await page.keyboard.press("Shift+Tab")
    await expect(page.get_by_role("link", name="Metrics")).to_be_focused()
    await page.keyboard.press("Enter")
    await settled(page, "Metrics")
    await expect(page.get_by_role("heading", level=2)).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("Search")).to_be_focused()
    await page.reload()
    await settled(page, "Metrics")
    await page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    await expect(skip).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_each_view_fits_its_screen(open_page: Open, size: tuple[int, int], scheme: str, tmp_path: Path) -> None:
    visit = await open_page(size, scheme)
    page = await visit.sign_in()
    for address, title in VIEWS.items():
        await page.goto(f"{visit.site.url}#/{address}")
        await settled(page, title)
        image = await page.screenshot(path=tmp_path / f"{title}.png".replace("&", "and"))
        assert len(image) > 5000
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{title} is too wide"
        assert await contrast(visit) >= 4.5, f"{title} is hard to read"


async def contrast(visit: Visit) -> float:
    """Return the lowest contrast of a text with the paper it is on."""
    return float(await visit.page.evaluate(_CONTRAST))


_CONTRAST = """() => {
  const light = (rgb) => {
    const [r, g, b] = rgb.map((part) => (part /= 255) <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const read = (text) => text.match(/[\\d.]+/g).map(Number);
  const paper = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = read(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found.slice(0, 3);
    }
    return [255, 255, 255];
  };
  let lowest = 21;
  const texts = "main p, main td, main th, main dd, main dt, main a, main button, nav a, label";
  for (const element of document.querySelectorAll(texts)) {
    if (!element.checkVisibility() || element.disabled || !element.innerText.trim()) continue;
    const [one, other] = [light(read(getComputedStyle(element).color).slice(0, 3)), light(paper(element))];
    lowest = Math.min(lowest, (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05));
  }
  return lowest;
}"""


async def test_the_source_that_counts_first_is_chosen(open_page: Open, site: Site) -> None:
    said = [
        {"date": "2025-03-01 10:00:00 +0000", "qty": qty, "source": source}
        for source, qty in (("Ring", 8), ("Watch", 5))
    ]
    site.call("POST", "/api/v1/ingest", {"data": {"metrics": [{"name": "toothbrushing", "units": "s", "data": said}]}})
    visit = await open_page()
    page = await visit.sign_in(view="metrics/toothbrushing")
    await expect(page.get_by_text("5 s", exact=True).first).to_be_visible()
    await page.get_by_text("Which source counts first").click()
    await page.get_by_role("button", name="Ring up").click()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("button", name="As the phone has it")).to_be_visible()
    total = site.call("GET", "/api/v1/metrics/toothbrushing/aggregate?by=day")["data"][0]["sum"]
    assert total == 8
    await page.get_by_text("Single points, newest first").click()
    await expect(page.get_by_text("not added")).to_be_visible()


async def test_a_point_and_a_range_are_deleted_after_a_question(open_page: Open, site: Site) -> None:
    said = [
        {"date": f"2025-04-0{number} 10:00:00 +0000", "qty": number, "source": source}
        for number in (1, 2, 3)
        for source in ("Tea|Cup", "Tea")
    ]
    name = "dietary_water"
    site.call("POST", "/api/v1/ingest", {"data": {"metrics": [{"name": name, "units": "mL", "data": said}]}})
    visit = await open_page()
    page = await visit.sign_in(view=f"metrics/{name}")
    await page.get_by_text("Single points, newest first").click()
    row = page.get_by_role("row").filter(has_text="Tea").filter(has_not_text="Cup").first
    await row.get_by_role("button", name="Delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert len(site.call("GET", f"/api/v1/metrics/{name}")["data"]) == 6
    await row.get_by_role("button", name="Delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.locator(".facts").get_by_text("5", exact=True)).to_be_visible()
    left = site.call("GET", f"/api/v1/metrics/{name}?sort=desc")["data"]
    assert [(one["value"], one["source"]) for one in left][:2] == [(3.0, "Cup|Tea"), (2.0, "Tea")]
    await page.get_by_role("button", name="Delete this range").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("There are no points of this metric.")).to_be_visible()


async def test_everything_is_taken_home_and_not_deleted_by_mistake(open_page: Open, site: Site, tmp_path: Path) -> None:
    visit = await open_page(PHONE, "dark")
    page = await visit.sign_in(view="keys")
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Take everything home").click()
    file = await download.value
    await file.save_as(tmp_path / "all.zip")
    assert "tables/health_points.jsonl" in zipfile.ZipFile(tmp_path / "all.zip").namelist()
    await page.get_by_role("button", name="Delete everything").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete everything").click()
    await expect(page.get_by_text("Nothing was deleted: the word was not typed.")).to_be_visible()
    assert site.call("GET", "/api/v1/metrics")["data"]


async def test_who_may_only_read_sees_nothing_to_delete(open_page: Open, site: Site) -> None:
    visit = await open_page()
    page = await visit.sign_in(site.reader, view="metrics/heart_rate")
    await settled(page, "Heart rate")
    await page.get_by_text("Single points, newest first").click()
    await expect(page.get_by_role("row").nth(1)).to_be_visible()
    await expect(page.get_by_role("button", name="Delete")).to_have_count(0)


async def test_a_day_is_a_total_a_night_counts_once_and_an_impossible_date_hides_nothing(
    open_page: Open, site: Site
) -> None:
    flights = [{"date": f"2025-05-01 10:{minute:02d}:00 +0200", "qty": 2, "source": "Watch"} for minute in range(7)]
    weights = [{"date": date, "qty": qty} for date, qty in (("2025-05-01 08:00:00 +0200", 71), ("2999-05-01", 72))]
    night = [
        {"startDate": f"2025-05-0{first}:00 +0200", "endDate": f"2025-05-0{last}:00 +0200", "value": value}
        for value, first, last in (
            ("In Bed", "1 22:00", "2 07:00"),
            ("Core", "1 23:00", "2 03:00"),
            ("Deep", "2 03:00", "2 05:00"),
        )
    ]
    sent = (
        ("flights_climbed", "count", flights),
        ("waist_circumference", "cm", weights),
        ("sleep_analysis", "hr", night),
    )
    metrics = [{"name": name, "units": units, "data": found} for name, units, found in sent]
    site.call("POST", "/api/v1/ingest", {"data": {"metrics": metrics}})
    visit = await open_page()
    page = await visit.sign_in(view="metrics/flights_climbed")
    await expect(page.locator(".facts div").filter(has_text="Latest day")).to_contain_text("14")
    await page.goto(f"{site.url}#/metrics/waist_circumference")
    await expect(page.locator(".facts div").filter(has_text="Last").first).to_contain_text("1 May 2025")
    await expect(page.get_by_role("group", name="mean by day")).to_be_visible()
    await page.goto(f"{site.url}#/metrics/sleep_analysis")
    await page.get_by_role("button", name="All", exact=True).click()
    await page.get_by_text("The values as a table").click()
    await expect(data_row(page.get_by_role("table").first, "2 May 2025")).to_contain_text("360")
    await page.get_by_role("button", name="Year", exact=True).click()
    await expect(page.get_by_role("button", name="Year", exact=True)).to_have_attribute("aria-pressed", "true")
    await expect(page.locator(".shown")).to_have_attribute("aria-busy", "false")
    await expect(page.locator(".shown > details"), "the table stays open").to_have_attribute("open", "")
