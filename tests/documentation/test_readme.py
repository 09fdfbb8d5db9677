"""What the README says is true: its commands, its YAML and its Python are run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from penstock.config.configuration import loads
from penstock.testing.servers import free_port

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples" / "README.md"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


class Shell:
    """Runs the commands of the README in an empty folder, as if `make up` had made the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, f"127.0.0.1:{free_port()}"
        commands = folder / ".venv" / "bin"
        commands.mkdir(parents=True)
        command = commands / "penstock"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m penstock "$@"\n')
        command.chmod(0o755)
        self._environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "NO_COLOR": "1"}

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command.replace("127.0.0.1:8080", self.address)],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "stderr").open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "penstock", *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def _soon(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 90
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.05)
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0


def test_the_first_screen(shell: Shell) -> None:
    assert shutil.which("curl"), "the README uses curl, which is not installed"
    assert COMMANDS[0] == "make up"
    post, query = COMMANDS[1:3]
    process = shell.start("up", "--address", shell.address)
    try:
        _soon(lambda: "Penstock is up" in (shell.folder / "stderr").read_text(), "greeting")
        assert shell.run(post) == '{"accepted":1}'
        _soon(lambda: (shell.folder / "penstock-data" / "penstock.db").exists(), "database")
        _soon(lambda: "readings" in shell.run(".venv/bin/penstock query"), "table")
        assert shell.run(query) == blocks("text")[0]
        _end(process)
    finally:
        process.kill()
        process.wait()


def test_the_stream_runs(shell: Shell) -> None:
    [text] = blocks("yaml")
    loads(text)
    (shell.folder / "readings.yaml").write_text(text)
    (shell.folder / "measured").mkdir()
    (shell.folder / "measured" / "a.jsonl").write_text(
        '{"sensor": "a", "celsius": 25}\nnot json\n{"sensor": "b", "celsius": 5}\n'
    )
    validate, run = COMMANDS[3:5]
    assert "readings: file -> sql -> sql" in shell.run(validate)
    process = shell.start(*run.split()[1:])
    try:
        refused = shell.folder / "refused.jsonl"
        _soon(lambda: refused.exists() and "not json" in refused.read_text(), "refused row")
        _soon(lambda: (shell.folder / "readings.db").exists(), "database")

        def rows() -> list[Any]:
            with closing(sqlite3.connect(shell.folder / "readings.db", timeout=60)) as connection:
                names = connection.execute("SELECT name FROM sqlite_schema WHERE name = 'readings'").fetchall()
                return connection.execute("SELECT * FROM readings").fetchall() if names else []

        assert _soon(rows, "rows") == [("a", 77)]
        _end(process)
    finally:
        process.kill()
        process.wait()


def test_the_python_runs() -> None:
    [source] = blocks("python")
    said = re.search(r"prints `(.*)`", TEXT)
    assert said is not None
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(source, "README.md", "exec"), {"__name__": "readme"})
    assert printed.getvalue().strip() == said[1]


@pytest.mark.slow
def test_the_other_commands_run(shell: Shell) -> None:
    rest = COMMANDS[5:]
    assert len(rest) == 9
    for command in rest:
        assert shell.run(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_files_that_the_pages_name_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for name in set(re.findall(r"`([a-z_/]+\.py|[a-z_]+(?:/[a-z_]+)*/)`", text)):
        roots = [ROOT, ROOT / "src" / "penstock"]
        assert any((root / name).exists() for root in roots), name


def test_targets_that_the_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"`make ([a-z]+)", page.read_text())) <= targets, page


def test_each_decision_is_listed_and_numbered() -> None:
    folder = ROOT / "docs" / "decisions"
    records = sorted(path.name for path in folder.glob("0*.md"))
    assert [name[:4] for name in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    listed = (folder / "README.md").read_text()
    assert all(name in listed for name in records)
