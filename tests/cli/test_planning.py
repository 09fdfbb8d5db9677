"""`penstock plan`: what a configuration will do, as text."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from penstock.cli import app

STREAM = """
streams:
  - id: planned
    input: {type: file, path: "*.jsonl", codec: json}
    durability: {enabled: true}
    buffer: {type: tumbling_window, interval: 1m}
    temporary: [{type: file, name: sites, path: sites.csv, key: id, cache_ttl: 5m}]
    pipeline:
      processors:
        - {type: sql, query: "SELECT a, b + 1 AS c FROM flow"}
        - type: sql
          name: joined
          query: SELECT sum(c) AS c FROM flow LEFT JOIN s ON a = s.id
          temporary_list: [{name: sites, table_name: s, key: {type: expr, expr: a}}]
    output:
      type: switch
      cases:
        - {when: c > 1, output: {type: stdout, name: shown}}
        - {output: {type: sql, name: kept, url: "sqlite:///t.db", table_name: t}}
    checkpoint: output
  - {id: short, input: {type: memory}, output: drop, error_output: stdout}
health_check: {enabled: false}
"""


def test_stages_columns_guarantees_and_bounds_are_told(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(STREAM)
    found = CliRunner().invoke(app, ["plan", str(tmp_path / "s.yaml")])
    assert found.exit_code == 0, found.output
    lines = {line.split()[0]: line for line in found.output.partition("stream short")[0].splitlines() if line.strip()}
    assert "file, decoded as json; reads at most a, b" in lines["input"]
    assert "write-ahead log" in lines["log"]
    assert "tumbling_window; holds" in lines["buffer"]
    assert "file (sites); remembered for 300 s" in lines["temporary"]
    assert "sql; row by row" in lines["0"]
    assert "sql (joined); by the batch" in lines["1"]
    assert "looks up in sites" in lines["1"]
    assert "stdout (shown); rows where c > 1" in lines["output.shown"]
    assert "rows where no other case takes them" in lines["output.kept"]
    assert "a refused row stops the stream" in lines["errors"]
    assert "exactly once in output.kept, where the input replays, at least once in the others" in lines["guarantee"]
    assert "deliveries in flight" in lines["bounds"]
    short = found.output.partition("stream short")[2]
    assert "each row at least once" in short
    assert "stdout: refused rows with their reason" in short
    assert list(tmp_path.iterdir()) == [tmp_path / "s.yaml"], "nothing is opened"


def test_the_same_is_told_as_json_with_the_stages_that_the_console_draws(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(STREAM)
    found = CliRunner().invoke(app, ["plan", "--format", "json", str(tmp_path / "s.yaml")])
    assert found.exit_code == 0, found.output
    planned, short = json.loads(found.output)["streams"]
    assert [planned["id"], short["id"]] == ["planned", "short"]
    kinds = [stage["kind"] for stage in planned["stages"]]
    assert kinds == ["input", "log", "buffer", "temporary", "processor", "processor", "output", "output"]
    assert planned["stages"][0]["columns"] == ["a", "b"]
    assert planned["stages"][0]["where"] == {"path": "*.jsonl"}
    assert any("each row is written once" in text for text in planned["guarantees"])
    assert planned["bounds"]["max_in_flight"] > 0
    assert short["stages"][-1]["kind"] == "error_output"
    broken = CliRunner().invoke(app, ["plan", "--format", "json", str(tmp_path / "missing.yaml")])
    assert broken.exit_code == 1
