"""Lines of the log: for people and as JSON, with where they belong and the traceback."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.observe import logs

LOG = logging.getLogger("penstock.test")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Give the logger back as it was."""
    root = logging.getLogger("penstock")
    before = root.handlers, root.propagate, root.level
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers, root.propagate, root.level = before


def written(path: Path, format: str) -> str:
    """Log a line of each kind and return the file."""
    logs.configure("info", format, path)
    stream, correlation = logs.stream_name.set("one"), logs.correlation_id.set("0a1b")
    try:
        LOG.debug("not this")
        LOG.info("hello %s", "wörld \udcff")
    finally:
        logs.stream_name.reset(stream)
        logs.correlation_id.reset(correlation)
    try:
        raise ValueError("why")
    except ValueError:
        LOG.exception("it failed")
    return path.read_text()


def test_lines_for_people_say_when_how_severe_and_where(tmp_path: Path) -> None:
    first, second, *traceback = written(tmp_path / "logs" / "log", "plain").splitlines()
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    assert re.fullmatch(time + r" \[info     \] hello wörld \\udcff correlation_id=0a1b stream=one", first)
    assert re.fullmatch(time + r" \[error    \] it failed", second)
    assert traceback[0].startswith("Traceback (most recent call last)")
    assert traceback[-1] == "ValueError: why"


def test_json_lines_have_the_same_fields(tmp_path: Path) -> None:
    first, second = map(json.loads, written(tmp_path / "log", "json").splitlines())
    assert first.pop("timestamp").endswith("Z")
    assert first == {"event": "hello wörld \udcff", "stream": "one", "correlation_id": "0a1b", "level": "info"}
    assert second["event"] == "it failed"
    assert second["exception"].endswith("ValueError: why")


def test_only_a_terminal_is_shown_colors(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure()
    LOG.warning("plain")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    logs.configure()
    LOG.warning("colored")
    plain, colored = capfd.readouterr().err.splitlines()
    assert "[warning  ] plain" in plain
    assert "\033" not in plain
    assert "\033[33m[warning  ]\033[0m colored" in colored
