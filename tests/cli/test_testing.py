"""`penstock test`: the tests that stand beside a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from penstock.cli import app
from penstock.errors import ConfigError

ROOT = Path(__file__).parents[2]
STREAM = """
streams:
  - id: one
    input: {type: generate, context: '{"n": 1}', interval: 1s, codec: json}
    buffer: {type: tumbling_window, interval: 1h}
    pipeline:
      processors:
        - {type: sql, query: "SELECT sum(n) AS total, 10 / min(n) AS tenth FROM flow"}
    output: {type: sql, url: "sqlite:///nowhere.db", table_name: t}
health_check: {enabled: false}
"""


def run(tmp_path: Path, tests: str, stream: str = STREAM) -> tuple[int, str]:
    (tmp_path / "s.yaml").write_text(stream)
    (tmp_path / "s.test.yaml").write_text(tests)
    found = CliRunner().invoke(app, ["test", str(tmp_path / "s.yaml")])
    if isinstance(found.exception, ConfigError):
        raise found.exception
    return found.exit_code, found.output


def test_rows_in_are_the_rows_expected_and_an_hour_takes_no_time(tmp_path: Path) -> None:
    tests = """
tests:
  - name: an hour is summed up
    now: 2026-01-01T00:00:00Z
    input: ['{"n": 1}', {n: 4}]
    output: [{total: 5, tenth: 10}]
"""
    code, output = run(tmp_path, tests)
    assert (code, output.splitlines()[-1]) == (0, "1 of 1 tests passed")
    assert not (tmp_path / "nowhere.db").exists()


def test_what_differs_is_shown_and_the_exit_code_is_one(tmp_path: Path) -> None:
    tests = """
tests:
  - {name: wrong sum, input: [{n: 1}], output: [{total: 2, tenth: 10}]}
  - {name: unexpected, input: [{n: 0}]}
  - {name: not refused, input: [{n: 1}], output: [{total: 1, tenth: 10}], errors: [{stage: 0.sql}]}
  - {name: right, input: [{n: 0}], errors: [{stage: 0.sql, reason: Divide by zero}]}
"""
    code, output = run(tmp_path, tests)
    assert code == 1
    assert '     -{"tenth": 10, "total": 2}\n     +{"tenth": 10, "total": 1}' in output
    assert "refused, which nobody expects" in output
    assert "not refused, though expected" in output
    assert output.endswith("1 of 4 tests passed\n")


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("tests: []", "at least 1 item"),
        ("tests: [{name: a, inputs: []}]", r"s.test.yaml.*unknown key; did you mean 'input'"),
        ("tests: [{name: a, input: [], stream: two}]", "no stream is called 'two'; expected one of one"),
        ("tests: [{name: a, input: [], output: {x: []}}]", "no output is called 'x'; expected one of output"),
        ("file: other.yaml\ntests: [{name: a, input: []}]", "other.yaml.*cannot be read"),
    ],
)
def test_tests_that_make_no_sense_are_told_with_their_place(tmp_path: Path, tests: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, tests)


def test_a_configuration_without_tests_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(STREAM)
    found = CliRunner().invoke(app, ["test", str(tmp_path / "t.yaml")])
    assert isinstance(found.exception, ConfigError)
    assert "expected t.test.yaml beside it" in str(found.exception)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.test.yaml")), ids=lambda path: path.name)
def test_the_examples_pass_their_tests(path: Path) -> None:
    found = CliRunner().invoke(app, ["test", str(path)])
    assert found.exit_code == 0, found.output
