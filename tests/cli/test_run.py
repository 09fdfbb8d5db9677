"""``penstock run``: ends by itself, stops on signals, says why it failed."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

ENDLESS = """\
streams:
  - id: endless
    input: {type: generate, context: {n: 1}, interval: 5ms, batch_size: 10, codec: json}
    output: {type: file, path: out.jsonl}
health_check: {enabled: false}
"""


def _lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def _test_stop(start, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "endless.yaml").write_text(ENDLESS)
    running = start("run", "endless.yaml")
    running.wait_for(lambda: _lines(tmp_path / "out.jsonl") > 100, "rows")
    assert running.end(number) == 0
    assert "Traceback" not in running.stderr
    assert "stopping" in running.stderr
    assert _lines(tmp_path / "out.jsonl") % 10 == 0


def test_ctrl_c_writes_what_is_on_its_way_and_exits_with_0(start, tmp_path: Path) -> None:
    _test_stop(start, tmp_path, signal.SIGINT)


def test_sigterm_does_the_same(start, tmp_path: Path) -> None:
    _test_stop(start, tmp_path, signal.SIGTERM)


def test_a_second_ctrl_c_exits_at_once(start, tmp_path: Path) -> None:
    (tmp_path / "stuck.yaml").write_text(
        """\
streams:
  - id: stuck
    input: {type: generate, context: {n: 1}, interval: 5ms, codec: json}
    pipeline:
      processors:
        - type: python
          function: sleep
          script: |
            import pathlib, time
            def sleep(batch):
                pathlib.Path("asleep").touch()
                time.sleep(30)
                return batch
    output: drop
health_check: {enabled: false}
state: memory
"""
    )
    running = start("run", "stuck.yaml")
    running.wait_for((tmp_path / "asleep").exists, "sleep")
    running.process.send_signal(signal.SIGINT)
    running.wait_for(lambda: "stopping" in running.stderr, "word of the stop")
    began = time.monotonic()
    assert running.end() == 130
    assert time.monotonic() - began < 20  # the call takes 30 s


def test_a_failed_stream_is_exit_code_1_with_the_reason(penstock, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        """\
streams:
  - id: bad
    input: {type: memory, messages: ["no json"], codec: json}
    output: drop
    restart: {attempts: 0}
health_check: {enabled: false}
"""
    )
    done = penstock("run", "bad.yaml")
    assert done.returncode == 1
    assert "bad: decode: " in done.stderr
    assert "Traceback" not in done.stderr


def test_logs_are_json_lines_in_a_file_when_asked_for(penstock, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        """\
logging: {level: debug, format: json, file_path: logs/penstock.log}
streams:
  - id: bad
    input: {type: memory, messages: ["no json"], codec: json}
    output: drop
    restart: {attempts: 0}
health_check: {enabled: false}
"""
    )
    done = penstock("run", "bad.yaml")
    assert done.returncode == 1
    assert '"stream": "bad"' in (tmp_path / "logs/penstock.log").read_text()
    assert "bad failed" not in done.stderr


def test_a_terminal_is_shown_rows_and_rate_while_it_runs(tmp_path: Path) -> None:
    (tmp_path / "endless.yaml").write_text(ENDLESS)
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock", "run", "endless.yaml"],
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    seen, deadline = "", time.monotonic() + 40
    try:
        while not ("rows/s" in seen and "endless" in seen and "running" in seen):
            assert time.monotonic() < deadline, seen
            if select.select([leader], [], [], 0.5)[0]:
                seen += os.read(leader, 65536).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            assert time.monotonic() < deadline
            if select.select([leader], [], [], 0.1)[0]:
                try:
                    os.read(leader, 65536)
                except OSError:  # the other side is closed
                    break
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(leader)
