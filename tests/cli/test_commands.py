"""Commands that end by themselves: validate, doctor, init, schema, components."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

FINE = """\
streams:
  - id: numbers
    input: {type: generate, context: {n: 1}, interval: 1ms, count: 3, codec: json}
    pipeline: {processors: [{type: sql, query: SELECT n + 1 AS n FROM flow}]}
    output: {type: stdout}
health_check: {enabled: false}
state: memory
"""


@pytest.fixture
def fine(tmp_path: Path) -> Path:
    path = tmp_path / "fine.yaml"
    path.write_text(FINE)
    return path


def test_the_version_is_that_of_the_distribution(penstock) -> None:
    done = penstock("--version")
    assert (done.returncode, done.stdout.strip()) == (0, "penstock 0.1.0")


def test_without_arguments_the_commands_are_listed(penstock) -> None:
    done = penstock()
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("run", "validate", "doctor", "init", "schema", "query", "up"))


def test_each_command_has_help_with_an_example(penstock) -> None:
    for command in (("run",), ("validate",), ("doctor",), ("init",), ("schema",), ("query",), ("up",)):
        assert "Example" in penstock(*command, "--help").stdout


@pytest.mark.parametrize(
    "arguments",
    [("validate", "fine.yaml"), ("--config", "fine.yaml", "--validate"), ("-c", "fine.yaml", "-v")],
    ids=" ".join,
)
def test_a_valid_file_is_shown_and_not_run(penstock, fine: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = penstock(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "numbers: generate -> sql -> stdout" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["fine.yaml"]


def test_the_reference_form_runs_a_file(penstock, fine: Path) -> None:
    done = penstock("--config", "fine.yaml")
    assert (done.returncode, done.stdout) == (0, '{"n":2}\n' * 3)


@pytest.mark.parametrize(
    ("change", "line", "path", "message"),
    [
        (("type: generate", "type: generat"), 3, "streams.0.input", "did you mean 'generate'?"),
        (("count: 3", "cuont: 3"), 3, "streams.0.input.cuont", "did you mean 'count'?"),
        (("interval: 1ms", "interval: soon"), 3, "streams.0.input.interval", "duration"),
        (("SELECT n + 1", "SELEC n + 1"), 4, "streams.0.pipeline.processors.0", "expected a query"),
        (("type: stdout", "type: stdout, append_newline: perhaps"), 5, "streams.0.output.append_newline", "boolean"),
        (("state: memory", "state: [1]"), 7, "state", "string"),
    ],
    ids=["type", "key", "duration", "query", "boolean", "top"],
)
def test_a_fault_is_one_line_with_file_line_and_path(
    penstock, fine: Path, change: tuple[str, str], line: int, path: str, message: str
) -> None:
    fine.write_text(FINE.replace(*change))
    done = penstock("validate", "fine.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"fine.yaml:{line} {path}: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_all_faults_are_told_at_once(penstock, fine: Path) -> None:
    fine.write_text(FINE.replace("type: generate", "type: generat").replace("type: stdout", "type: stdot"))
    done = penstock("validate", "fine.yaml")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.split()[0] for line in lines] == ["fine.yaml:3", "fine.yaml:5"]


@pytest.mark.parametrize("command", ["run", "validate", "doctor"])
def test_a_missing_file_is_said_plainly(penstock, command: str) -> None:
    done = penstock(command, "nowhere.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "nowhere.yaml cannot be read: No such file or directory\n"


def test_init_writes_a_file_that_runs_and_is_not_overwritten(penstock, tmp_path: Path) -> None:
    assert penstock("init").returncode == 0
    written = (tmp_path / "penstock.yaml").read_text()
    assert written.count("#") > 10
    assert penstock("validate", "penstock.yaml").returncode == 0
    for _ in range(2):
        ran = penstock("run", "penstock.yaml")
        assert (ran.returncode, ran.stdout) == (0, '{"sensor":"kitchen","fahrenheit":70.7}\n' * 5)
        assert [line for line in ran.stderr.splitlines() if "reads from the beginning" not in line] == []
    again = penstock("init", "penstock.yaml")
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert (tmp_path / "penstock.yaml").read_text() == written


def test_init_says_what_it_cannot_write(penstock) -> None:
    assert "ends in .yaml" in penstock("init", "x.txt").stderr
    assert "cannot be written" in penstock("init", "nowhere/x.yaml").stderr


def test_doctor_says_which_component_cannot_be_opened(penstock, tmp_path: Path) -> None:
    (tmp_path / "sick.yaml").write_text(
        """\
streams:
  - id: sick
    input: {type: file, path: nowhere/*.json}
    pipeline: {processors: [{type: python, function: f, module: not_a_module_of_ours}]}
    output: {type: sql, url: "postgresql://ann:s3cret@127.0.0.1:1/x", table_name: t}
    error_output: {type: drop}
"""
    )
    done = penstock("doctor", "sick.yaml")
    assert done.returncode == 1
    lines = {line.split()[3]: line for line in done.stdout.splitlines()}
    assert lines["sick.input"].startswith("FAIL")
    assert "nowhere" in lines["sick.input"]
    assert "not_a_module_of_ours" in lines["sick.pipeline.processors.0"]
    assert lines["sick.output"].startswith("FAIL")
    assert "s3cret" not in done.stdout + done.stderr
    assert lines["sick.error_output"].startswith("ok")
    assert "Traceback" not in done.stdout + done.stderr


def test_doctor_reads_and_writes_nothing(penstock, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"a":1}\n')
    (tmp_path / "well.yaml").write_text(
        """\
streams:
  - id: well
    input: {type: file, path: rows.json}
    pipeline: {processors: [{type: batch, count: 2, timeout: 1s}]}
    output: {type: sql, url: "sqlite:///out.db", table_name: t}
    durability: {}
"""
    )
    done = penstock("doctor", "well.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.startswith("ok ") and " s " in line for line in done.stdout.splitlines())
    assert not (tmp_path / "penstock-data").exists()
    connection = sqlite3.connect(tmp_path / "out.db")
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    connection.close()


def test_the_components_are_listed_by_kind(penstock) -> None:
    everything = penstock("components", "list").stdout
    assert "inputs:" in everything
    assert "codecs:" in everything
    outputs = penstock("components", "list", "--kind", "output").stdout
    assert "stdout" in outputs
    assert "generate" not in outputs
    assert penstock("components", "list", "-k", "outputs").stdout == outputs
    wrong = penstock("components", "list", "-k", "sink")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "expected one of input, buffer, processor, temporary, output, codec" in wrong.stderr


def test_a_component_is_shown_as_text_and_as_json(penstock) -> None:
    text = penstock("components", "show", "input", "generate").stdout
    assert "Options:" in text
    assert "batch_size (integer ≥ 1, default 1)" in text
    assert "type: generate" in text
    page = json.loads(penstock("components", "show", "input", "generate", "--format", "json").stdout)
    assert page["name"] == "generate"
    assert page["schema"]["properties"]["batch_size"]["default"] == 1
    wrong = penstock("components", "show", "input", "generat")
    assert wrong.returncode == 1
    assert "did you mean 'generate'?" in wrong.stderr
