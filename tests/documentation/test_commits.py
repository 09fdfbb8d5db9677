"""The check of commits refuses what breaks their form, and says what it expected."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / ".ci" / "check-commits"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    _git(tmp_path, "init", "--quiet")
    _commit(tmp_path, "Begin")
    return tmp_path


def _git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def _commit(folder: Path, message: str, lines: int = 30) -> None:
    (folder / f"{lines} lines").write_text(f"{message}\n" * lines)
    _git(folder, "add", ".")
    _git(folder, "commit", "--quiet", "--message", message)


def _check(folder: Path) -> subprocess.CompletedProcess[str]:
    base = _git(folder, "rev-list", "--max-parents=0", "HEAD").strip()
    environment = {"PATH": "/usr/bin:/bin", "BASE": base}
    return subprocess.run(["bash", CHECK], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_commit_of_the_right_form_passes(repository: Path) -> None:
    _commit(repository, "Close files that are read\n\nThe limit of descriptors was reached after a day.")
    _commit(repository, "Correct a word", lines=2)
    done = _check(repository)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (f"Close {'x' * 70}\n\nWhy.", "expected at most 72"),
        ("Close files; open others\n\nWhy.", "expected one thing"),
        ("close files\n\nWhy.", "expected a capital letter"),
        ("Close files.\n\nWhy.", "no full stop"),
        ("Close files", "no body says why"),
    ],
)
def test_a_commit_of_the_wrong_form_is_refused_with_the_reason(repository: Path, message: str, expected: str) -> None:
    _commit(repository, message)
    done = _check(repository)
    assert done.returncode == 1
    assert expected in done.stderr
