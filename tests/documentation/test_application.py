"""The example of an application is installed as a stranger would, and keeps what it has accepted."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from penstock.testing.servers import free_port

pytestmark = pytest.mark.slow  # each starts and kills the application
APPLICATION = Path(__file__).parents[2] / "examples" / "application"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("application") / "application"
    target = tmp_path_factory.mktemp("installed")
    shutil.copytree(APPLICATION, source, ignore=shutil.ignore_patterns("__pycache__", "dist"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--target", str(target), str(source)], check=True, timeout=120
    )
    return target


class Notes:
    """The application as a process, which can be killed and started again."""

    def __init__(self, installed: Path, folder: Path) -> None:
        self._environment = {**os.environ, "PYTHONPATH": str(installed)}
        self._folder, self._address = folder, f"127.0.0.1:{free_port()}"
        self.database = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, command: tuple[str, ...], options: str = "") -> None:
        file = self._folder / "notes.yaml"
        file.write_text(
            f"applications: [{{type: notes{options}}}]\n"
            f"health_check: {{address: '{self._address}'}}\n"
            f"database: '{self.database}'\n"
        )
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "penstock", *command, str(file)],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.wait_for(lambda: self._answers("/readiness") and self._answers("/notes/"))

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def post(self, body: bytes, **headers: str) -> int:
        request = urllib.request.Request(f"http://{self._address}/notes/", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def keep(self, text: str) -> None:
        assert self.post(urllib.parse.urlencode({"text": text}).encode()) == 200  # of the page that it leads to

    def listed(self) -> list[str]:
        with urllib.request.urlopen(f"http://{self._address}/notes/", timeout=60) as answer:
            return re.findall("<li>(.*?)</li>", answer.read().decode())

    def command(self, *arguments: str) -> list[str]:
        """Run a command of the application, and return the lines that it prints."""
        program = [sys.executable, "-m", "penstock", *arguments]
        ran = subprocess.run(
            program, cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=50, check=True
        )
        return ran.stdout.splitlines()

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}{path}", timeout=60):
                return True
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        return False

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 90
        while not condition():
            log = (self._folder / "log").read_text()
            assert self.process is not None
            assert self.process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.02)


@pytest.fixture
def notes(installed: Path, tmp_path: Path) -> Iterator[Notes]:
    running = Notes(installed, tmp_path)
    yield running
    if running.process is not None and running.process.poll() is None:
        running.process.kill()
        running.process.wait(timeout=60)


@pytest.mark.parametrize("command", [("run",), ("up", "--config")], ids=["run", "up"])
def test_a_note_outlives_a_crash_and_older_ones_are_deleted(
    notes: Notes, tmp_path: Path, command: tuple[str, ...]
) -> None:
    notes.start(command)
    notes.keep("<b>one</b>")
    notes.end(signal.SIGKILL)

    notes.start(command)
    notes.wait_for(lambda: notes.listed() == ["&lt;b&gt;one&lt;/b&gt;"])
    notes.keep("two")
    notes.keep("three")
    notes.wait_for(lambda: len(notes.listed()) == 3)
    assert notes.command("notes", "list") == ["three", "two", "<b>one</b>"]
    assert notes.end(signal.SIGINT) == 0
    assert (tmp_path / "penstock-data" / "penstock-notes.db").exists()

    notes.start(command, ", keep: 2")
    notes.wait_for(lambda: notes.listed() == ["three", "two"])
    assert notes.end(signal.SIGINT) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_its_table_is_in_a_schema_of_its_own_in_postgresql(notes: Notes, postgres_database: str) -> None:
    notes.database = postgres_database
    notes.start(("run",), ", keep: 1")
    notes.keep("one")
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        kept = "SELECT text FROM notes.notes"
        notes.wait_for(lambda: connection.execute(kept).fetchall() == [("one",)])
    assert notes.listed() == ["one"]
    assert notes.end(signal.SIGINT) == 0


def test_what_is_no_note_is_refused(notes: Notes) -> None:
    notes.start(("run",))
    assert notes.post(b"text=%20") == 422
    assert notes.post(b"text=a%00b") == 422
    assert notes.post(b"text=" + b"a" * 20_000) == 422
    assert notes.post(b"text=a", origin="http://elsewhere.example") == 403
    assert notes.listed() == []


def test_once_there_is_a_key_for_notes_each_needs_one(notes: Notes) -> None:
    notes.start(("run",))
    assert notes.post(b"text=open") == 200
    (key,) = [line for line in notes.command("keys", "create", "--name", "pen") if line.startswith("pen_")]
    notes.wait_for(lambda: notes.post(b"text=shut") == 401)
    assert notes.post(b"text=keyed", authorization=f"Bearer {key}") == 200
    notes.wait_for(lambda: "keyed" in notes.listed())
    reading = notes.command("keys", "create", "--name", "reader", "--scope", "operator")
    other = next(line for line in reading if line.startswith("pen_"))
    assert notes.post(b"text=other", authorization=f"Bearer {other}") == 403


def test_it_is_small() -> None:
    source = APPLICATION / "src" / "penstock_notes"
    assert sum(len(file.read_text().splitlines()) for file in source.glob("*.py")) < 150
