"""The commands as a person calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from penstock.apps.conversations.commands import app, printable

from .conftest import SAMPLES, line


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


def test_logs_are_imported_once_and_then_searched_listed_and_counted(data: str) -> None:
    assert call("import", str(SAMPLES), "--data", data, "--host", "old").stdout == "524 new lines, 524 in all\n"
    assert call("import", str(SAMPLES), "--data", data, "--host", "old").stdout == "0 new lines, 524 in all\n"
    (hit, *_) = json.loads(call("search", "TODO app", "--json", "--data", data).stdout)
    assert hit["project"] == "sample-project"
    sessions = call("sessions", "--data", data).stdout.splitlines()
    assert len(sessions) == 3
    assert "Empty Repo Setup" in "".join(sessions)
    (month,) = json.loads(call("usage", "monthly", "--json", "--timezone", "UTC", "--data", data).stdout)
    assert (month["key"], month["responses"], month["tokens"]["output"]) == ("2025-09", 199, 56_535)
    assert "56,535" in call("usage", "model", "--data", data).stdout
    assert call("usage", "--until", "2025-09-01", "--data", data).stdout.count("\n") == 1


def test_one_file_is_imported_and_what_is_no_line_is_told(data: str, tmp_path: Path) -> None:
    log = tmp_path / "s.jsonl"
    log.write_bytes(line(content="okapi") + b'\n"no line"\n' + line(content="half")[:20])
    assert call("import", str(log), "--data", data).stdout == "1 new lines, 1 in all\n"
    assert "okapi" in call("search", "okapi", "--data", data).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("usage", "hourly"), "expected one of daily"),
        (("usage", "--since", "soon"), "expected a day such as 2026-11-01"),
        (("usage", "--timezone", "Mars"), "expected a time zone"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: tuple[str, ...], message: str, data: str) -> None:
    result = call(*arguments, "--data", data)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_folder_that_is_not_there_is_named(data: str) -> None:
    result = call("import", "/nowhere", "--data", data)
    assert "no file matches '/nowhere/**/*.jsonl'" in str(result.exception)


def test_what_agents_and_tools_wrote_does_not_reach_the_terminal_as_a_command(data: str, tmp_path: Path) -> None:
    log = tmp_path / "s.jsonl"
    log.write_bytes(line(content="okapi \x1b]0;owned\x07\x1b[2J \u202e reversed") + b"\n")
    call("import", str(log), "--data", data)
    shown = call("search", "okapi", "--data", data).stdout
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert printable("a\tb\u200b") == "a\ufffdb\ufffd"
