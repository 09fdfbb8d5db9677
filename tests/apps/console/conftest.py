"""The console in a real browser, before `penstock up` as people run it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from penstock.testing.servers import free_port, require_servers

WIDTHS = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1400, "height": 900}}
PATIENCE = int(os.environ.get("CONSOLE_PATIENCE", "60000"))
"""How long a test waits for something to show, in milliseconds."""
expect.set_options(timeout=PATIENCE)


def penstock(folder: Path, *arguments: str) -> str:
    """Run a command in the folder of an installation, and return what it printed."""
    command = [sys.executable, "-m", "penstock", *arguments]
    ran = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    limits = {f"PENSTOCK_HEALTH_{name}__REQUESTS": "100000" for name in ("INGEST", "READ", "EXPORT", "ADMIN")}
    return {**kept, **limits, "CLAUDE_DIR": str(folder / "agents")}


class Site:
    """`penstock up` in a folder of its own, which can be started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        self.cookie: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> Site:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "penstock", "up", "--address", self.address, *arguments],
                cwd=self.folder,
                env=environment(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.until(lambda: self.call("GET", "/readiness")[0] == 200)
        self.until(lambda: self.call("GET", "/api/console/navigation")[0] in (200, 401))
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not is_so():
            assert self._process is not None
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log[-4000:]
            time.sleep(0.1)

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Send a request, with the session if there is one, and return status, answer and headers."""
        sent = {"x-penstock": "1", "content-type": "application/json", **(headers or {})}
        if self.cookie:
            sent.setdefault("cookie", f"{self.cookie['name']}={self.cookie['value']}")
        content = None if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", content, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text, status, given = answer.read(), answer.status, dict(answer.headers)
        except urllib.error.HTTPError as error:
            text, status, given = error.read(), error.code, dict(error.headers)
        except OSError:
            return 0, None, {}
        try:
            return status, json.loads(text or b"null"), given
        except ValueError:
            return status, text, given

    def send(self, table: str, *rows: Any) -> None:
        """Post rows, and return once each is in its table or refused: an answer says only that they are in the log."""

        def settled() -> int:
            states = self.call("GET", "/api/platform/v1/streams")[1]["data"]
            return next(one["rows_out"] + one["rows_refused"] for one in states if one["id"] == "ingest")

        wanted = settled() + len(rows)
        body = "\n".join(json.dumps(row) for row in rows)
        status, answer, _ = self.call("POST", f"/ingest/{table}", body, {"content-type": "application/x-ndjson"})
        assert status in (200, 202), answer
        self.until(lambda: settled() >= wanted)

    def link(self) -> str:
        return penstock(self.folder, "sign-in", "--address", self.address)

    def sign_in(self) -> None:
        """Begin the session that all pages of the tests use."""
        token = self.link().partition("#sign-in=")[2]
        status, _, headers = self.call("POST", "/api/platform/v1/sessions", {"link": token})
        assert status == 201
        found = re.match(r"([^=]+)=([^;]+)", headers["set-cookie"])
        assert found
        self.cookie = {"name": found[1], "value": found[2], "url": self.url, "httpOnly": True, "sameSite": "Strict"}


@pytest.fixture(scope="session")
def chromium() -> str:
    program = shutil.which("chromium")
    if program is None:
        what = "Chromium is not installed; install it with: apt-get install -y --no-install-recommends chromium"
        if require_servers():
            pytest.fail(what)
        pytest.skip(what)
    return program


@pytest.fixture(scope="session")
def site(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One installation for all tests of a process."""
    found = Site(tmp_path_factory.mktemp("console")).start()
    try:
        found.sign_in()
        assert found.call("POST", "/ingest/first", {"a": 1})[0] == 200
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


class Watched(NamedTuple):
    """A page, and what it complains of."""

    page: Page
    complaints: list[str]


@pytest.fixture
def fresh(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Make contexts in which nobody has signed in."""
    made: list[BrowserContext] = []

    def make(size: str = "desktop", scheme: Any = "light") -> BrowserContext:
        made.append(browser.new_context(viewport=WIDTHS[size], color_scheme=scheme))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def console(site: Site, fresh: Callable[..., BrowserContext]) -> Callable[..., Watched]:
    """Open a view as somebody who has signed in and may see everything."""

    def open(fragment: str = "", size: str = "desktop", scheme: str = "light") -> Watched:
        context = fresh(size, scheme)
        context.add_cookies([site.cookie])  # type: ignore[list-item]
        return watched(context, f"{site.url}/{fragment}")

    return open


def watched(context: BrowserContext, url: str) -> Watched:
    page, complaints = context.new_page(), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.goto(url)
    return Watched(page, complaints)


def is_too_wide(page: Page) -> bool:
    """Whether a person has to scroll sideways."""
    found: bool = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    return found
