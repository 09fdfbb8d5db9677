"""The command line as people meet it: a process in a folder of its own."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import pytest

from penstock.cli import main
from penstock.testing.forks import Fork, call
from penstock.testing.servers import free_port, require_servers

Done = subprocess.CompletedProcess[str]


class Command(Protocol):
    """Runs ``penstock`` with arguments and returns what it wrote."""

    def __call__(self, *arguments: str, **environment: str) -> Done: ...


def _environment(more: dict[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "100", **more}


@pytest.fixture
def penstock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command in an empty folder: in this process, but for those that run streams."""

    def run(*arguments: str, **environment: str) -> Done:
        if arguments and (arguments[0] == "run" or (arguments[0] in ("--config", "-c") and len(arguments) == 2)):
            return call(("-m", "penstock"), arguments, cwd=tmp_path, env=_environment(environment))
        monkeypatch.chdir(tmp_path)
        for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
            monkeypatch.delenv(name)
        for name, value in _environment(environment).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["penstock", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        written = capfd.readouterr()
        return Done(arguments, int(ended.value.code or 0), written.out, written.err)

    return run


class Running:
    """A command that runs on: it can be signalled, killed and asked over HTTP."""

    def __init__(
        self,
        folder: Path,
        arguments: tuple[str, ...],
        environment: dict[str, str],
        *,
        umask: int = -1,
        program: Sequence[str] = (),
    ) -> None:
        self._log = folder / f"stderr-{time.monotonic_ns()}"
        self._log.touch()
        self.process: Fork | subprocess.Popen[bytes]
        if program:
            with self._log.open("w") as log:
                self.process = subprocess.Popen(
                    [sys.executable, *program, *arguments],
                    cwd=folder,
                    env=_environment(environment),
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                )
        else:
            self.process = Fork(
                ("-m", "penstock"),
                arguments,
                log=Path(os.devnull),
                errors=self._log,
                cwd=folder,
                env=_environment(environment),
                umask=umask,
            )

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return self._log.read_text()

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = 90) -> Any:
        """Return what ``condition`` returns once it is true."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert self.process.poll() is None, f"it has ended, waiting for {what}: {self.stderr}"
            assert time.monotonic() < deadline, f"no {what} in {seconds} s: {self.stderr}"
            time.sleep(0.02)
        return found

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Signal it and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=60)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start a command that runs on; ``program`` is what a Python of its own runs instead."""
    started: list[Running] = []

    def run(*arguments: str, program: Sequence[str] = (), **environment: str) -> Running:
        started.append(Running(tmp_path, arguments, environment, program=program))
        return started[-1]

    yield run
    for one in started:
        one.close()


class Up(Running):
    """``penstock up`` on a port of its own, under the umask that protects nothing."""

    def __init__(self, folder: Path, address: str, port: int, environment: dict[str, str]) -> None:
        super().__init__(folder, ("up", "--address", f"{address}:{port}"), environment, umask=0)
        self.url = f"http://127.0.0.1:{port}"

    def ready(self) -> Self:
        """Wait until it takes posts."""
        self.wait_for(lambda: "Penstock is up" in self.stderr, "greeting")
        return self

    def post(self, path: str, body: bytes | str | dict[str, Any], content_type: str = "application/json") -> int:
        """Post a body and return the status."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
        request = urllib.request.Request(
            f"{self.url}{path}", data=data, headers={"content-type": content_type}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def get(self, path: str) -> tuple[int, str]:
        """Return the status and the text of a page."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as answer:
            return int(answer.status), answer.read().decode()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Start ``penstock up``, and again after it ended."""
    started: list[Up] = []
    port = free_port()

    def run(host: str = "127.0.0.1", **environment: str) -> Up:
        started.append(Up(tmp_path, host, port, environment))
        return started[-1].ready()

    yield run
    for one in started:
        one.close()


class _Stranger(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A stranger's page</title>")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def stranger() -> Iterator[str]:
    """Serve a page at another port of this machine: another origin, but the same site, to which cookies are sent."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def chromium() -> str:
    """The path of Chromium; a test without it is skipped, or fails where servers are required."""
    program = shutil.which("chromium")
    if program is not None:
        return program
    what = "Chromium is not installed; install it with: apt-get install -y --no-install-recommends chromium"
    if require_servers():
        pytest.fail(what)
    pytest.skip(what)
