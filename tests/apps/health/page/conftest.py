"""The page in a real browser: a Chromium of the system, before a service that runs as people run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from penstock.testing.servers import ServerMissing, free_port, require_servers

from .sample import body

CHROMIUM = "/usr/bin/chromium"
INSTALL = "apt-get install -y --no-install-recommends chromium"
PHONE, DESKTOP = (390, 844), (1200, 900)
PATIENCE = 60_000
"""How long a test waits for something to show, in milliseconds."""
expect.set_options(timeout=PATIENCE)
LIMITS = {f"PENSTOCK_HEALTH_{name}__REQUESTS": "100000" for name in ("INGEST", "READ", "EXPORT", "ADMIN")}


class Site(NamedTuple):
    """A service with the sample in it."""

    origin: str
    key: str
    """It may do everything."""
    reader: str
    """It may read only."""
    ingest: str
    """The id under which the sample arrived."""

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"{self.origin}/health-data"

    def call(self, method: str, path: str, sent: Any = None, key: str | None = None) -> Any:
        """Speak to the API without the page."""
        return call(self.origin, method, path, sent, key or self.key)


def call(origin: str, method: str, path: str, sent: Any = None, key: str = "") -> Any:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "automation-name": "Every hour"}
    content = json.dumps(sent).encode() if sent is not None else None
    request = urllib.request.Request(f"{origin}{path}", content, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """``penstock up`` in an empty folder, with the keys of one person and what their phone has sent."""
    with _up(tmp_path_factory.mktemp("site")) as (origin, folder):
        scopes = [part for scope in ("ingest", "read", "export", "admin") for part in ("--scope", scope)]
        key = _penstock(folder, "health", "keys", "create", "--name", "laptop", *scopes).strip()
        reader = _penstock(folder, "health", "keys", "create", "--name", "reader", "--scope", "read").strip()
        sent = call(origin, "POST", "/api/v1/ingest", body(), key)
        found = Site(origin, key, reader, sent["id"])
        _until(
            lambda: found.call("GET", f"/api/v1/ingest/{sent['id']}")["state"] == "processed", "the sample is stored"
        )
        yield found


@contextmanager
def _up(folder: Path) -> Iterator[tuple[str, Path]]:
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "penstock", "up", "--address", address]
        process = subprocess.Popen(
            command, cwd=folder, env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:

        def ready() -> bool:
            if process.poll() is not None:
                raise AssertionError((folder / "log").read_text(errors="replace")[-2000:])
            try:
                return bool(urllib.request.urlopen(f"http://{address}/health/ready", timeout=60).status == 200)
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                return False

        _until(ready, "the service is ready")
        yield f"http://{address}", folder
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=60)


def _penstock(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "penstock", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return {**kept, **LIMITS, "NO_COLOR": "1"}


def _until(condition: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s until {what}"
        time.sleep(0.1)


def chromium() -> str:
    """Return the browser's program; raises ServerMissing."""
    found = CHROMIUM if Path(CHROMIUM).exists() else shutil.which("chromium")
    if found is None:
        raise ServerMissing(f"Chromium is not installed; install it with: {INSTALL}")
    return found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests of the session."""
    try:
        program = chromium()
    except ServerMissing as missing:
        if require_servers():
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield running
        finally:
            await running.close()


class Visit:
    """A person at the page, and all that went wrong in their browser."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page, self.site = page, site
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.expected: list[str] = []
        """Parts of what the console may say: a refused request is an error to the browser."""
        page.on("console", lambda said: self._note(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self._note(f"uncaught: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))

    def _note(self, problem: str) -> None:
        self.problems.append(problem)

    async def sign_in(self, key: str | None = None, view: str = "") -> Page:
        """Open the page at a view, and sign in."""
        await self.page.goto(f"{self.site.url}{f'#/{view}' if view else ''}")
        await self.page.get_by_label("API key").fill(key or self.site.key)
        await self.page.get_by_role("button", name="Sign in").click()
        return self.page

    def check(self) -> None:
        """Fail if anything went wrong, or anything was asked of another place."""
        found = [problem for problem in self.problems if not any(part in problem for part in self.expected)]
        assert not found
        own = (f"{self.site.origin}/", f"blob:{self.site.origin}/")
        assert [url for url in self.requests if not url.startswith(own)] == []
        assert [url for url in self.requests if self.site.key in url or self.site.reader in url] == []


Open = Callable[..., Awaitable[Visit]]


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser, site: Site) -> AsyncIterator[Open]:
    """Open the page in a browser of one's own: on a desktop in the light, unless said otherwise."""
    contexts: list[BrowserContext] = []
    visits: list[Visit] = []

    async def opened(size: tuple[int, int] = DESKTOP, scheme: Any = "light") -> Visit:
        context = await browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            locale="en-GB",
            timezone_id="Europe/Berlin",
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        visits.append(Visit(await context.new_page(), site))
        return visits[-1]

    yield opened
    for context in contexts:
        await context.close()
    for visit in visits:
        visit.check()
