"""The console in Chromium: its first paint, what it loads for it, and the cost of fifty streams that are watched."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .case import Case, Sample, Unavailable, processor_seconds
from .server import running, wait_for

WATCHED_FOR = 10.0
STREAMS = 50
_STREAM = """
  - id: stream-{number}
    input: {{type: generate, context: '{{"a": 1}}', interval: 500ms}}
    output: drop
"""


def _chromium() -> str:
    program = shutil.which("chromium")
    if program is None:
        raise Unavailable("chromium: apt-get install -y --no-install-recommends chromium")
    return program


@contextmanager
def _console(folder: Path, streams: int) -> Iterator[tuple[str, int, str]]:
    """Run a console beside some streams; yields its URL, its process, and a key that may see all."""
    from penstock.testing.servers import free_port

    address, data = f"127.0.0.1:{free_port()}", folder / "data"
    text = (
        f"data: {data}\nhealth_check: {{address: '{address}'}}\nlogging: {{level: warning}}\napplications: [console]\n"
    )
    text += "streams:\n" + "".join(_STREAM.format(number=number) for number in range(streams)) if streams else ""
    (folder / "console.yaml").write_text(text)
    command = [sys.executable, "-m", "penstock"]
    started = [*command, "up", "--config", str(folder / "console.yaml"), "--address", address, "--data", str(data)]
    with running(started, folder / "log", {}) as pid:
        wait_for(f"http://{address}/readiness", pid, folder / "log")
        made = [*command, "keys", "create", "--data", str(data), "--name", "bench", "--scope", "operator"]
        key = subprocess.run(made, capture_output=True, text=True, check=True).stdout.strip()
        yield f"http://{address}", pid, key


@contextmanager
def _page(url: str, key: str) -> Iterator[Any]:
    """Open a page of Chromium that has signed in."""
    from playwright.sync_api import sync_playwright

    headers = {"x-penstock": "1", "content-type": "application/json"}
    asked = urllib.request.Request(f"{url}/api/platform/v1/sessions", json.dumps({"key": key}).encode(), headers)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=["--no-sandbox", "--disable-gpu"])
        try:
            context = browser.new_context(viewport={"width": 1400, "height": 900})
            context.add_cookies([{"name": name, "value": value, "url": url}])
            yield context.new_page()
        finally:
            browser.close()


def _paint(folder: Path) -> Sample:
    with _console(folder, 5) as (url, _, key), _page(url, key) as page:
        page.goto(f"{url}/#/streams")
        page.get_by_role("heading", name="Streams", level=1).wait_for()
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        loaded = page.evaluate(
            "performance.getEntries().reduce((sum, one) => sum + (one.transferSize ?? 0), 0)"  # headers too
        )
        return Sample(paint / 1000, notes={"kB": loaded / 1000})


def _live(folder: Path) -> Sample:
    with _console(folder, STREAMS) as (url, pid, key), _page(url, key) as page:
        time.sleep(2)  # what follows a start
        alone = _used(pid)
        page.goto(f"{url}/#/streams")
        page.get_by_role("link", name="stream-49").wait_for()
        client = page.context.new_cdp_session(page)
        client.send("Performance.enable")
        before = _work(client)
        watched = _used(pid)
        worked = (_work(client) - before) / WATCHED_FOR * 100
        return Sample(watched - alone, notes={"page CPU %": worked, "server CPU % unwatched": alone})


def _used(pid: int) -> float:
    before, began = processor_seconds(pid), time.perf_counter()
    time.sleep(WATCHED_FOR)
    return (processor_seconds(pid) - before) / (time.perf_counter() - began) * 100


def _work(client: Any) -> float:
    """Return how many seconds the page has worked, on its main thread."""
    found = client.send("Performance.getMetrics")["metrics"]
    return next(float(one["value"]) for one in found if one["name"] == "TaskDuration")


CASES = [
    Case(
        "console.paint",
        "console",
        "Penstock: the console opened at its streams, first contentful paint; kB loaded",
        "s",
        _paint,
        reach=1.0,
        more_is_better=False,
        limits={"kB": 350},
        warm=_chromium,
    ),
    Case(
        "console.live",
        "console",
        f"Penstock: {STREAMS} streams watched live, processor of the server beyond that without a page",
        "% of a core",
        _live,
        reach=5.0,
        more_is_better=False,
        limits={"page CPU %": 15},
        runs=2,
        warm=_chromium,
    ),
]
