"""What is kept is closed to the other users of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.platform.privacy import keep_private


def test_databases_are_closed_and_one_that_goes_away_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that reads a SQLite file makes files beside it, and takes them away at any moment."""
    kept, gone = tmp_path / "rows.db", tmp_path / "rows.db-shm"
    for file in (kept, gone):
        file.touch(0o644)
    listed = Path.glob

    def list_then_lose(folder: Path, pattern: str) -> Any:
        found = [*listed(folder, pattern)]
        gone.unlink()
        return found

    monkeypatch.setattr(Path, "glob", list_then_lose)
    with keep_private(tmp_path):
        assert kept.stat().st_mode & 0o777 == 0o600
    assert tmp_path.stat().st_mode & 0o777 == 0o700
