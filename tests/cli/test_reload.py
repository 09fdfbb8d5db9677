"""`penstock reload` and SIGHUP: a changed file is applied, a wrong one is not, and a kill amid it loses nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .conftest import Command, Running

Start = Callable[..., Running]


def write(folder: Path, **streams: str) -> None:
    """Write a file of streams, each of which copies the same numbered rows into a file of its name and suffix."""
    source = {
        "type": "file",
        "path": "rows.jsonl",
        "codec": "json",
        "batch_rows": 50,
        "chunk_size": 1000,
        "follow": True,
    }
    listed = [
        {"id": id, "input": source, "output": {"type": "file", "path": f"{id}{suffix}.jsonl", "format": "json"}}
        for id, suffix in streams.items()
    ]
    part = folder / "streams.json.part"
    part.write_text(json.dumps({"health_check": {"enabled": False}, "streams": listed}))
    part.rename(folder / "streams.json")


def numbers(folder: Path, pattern: str) -> list[int]:
    """Return the numbers that were written to the files of this pattern."""
    found = [line for file in folder.glob(pattern) for line in file.read_text().splitlines() if line.endswith("}")]
    return [int(line[5:-1]) for line in found]


def rows(folder: Path, count: int) -> None:
    with (folder / "rows.jsonl").open("a") as file:
        begin = (folder / "rows.jsonl").read_text().count("\n")
        file.write("".join(f'{{"n": {n}}}\n' for n in range(begin, count)))


def test_a_changed_file_is_applied_and_a_wrong_one_is_not(tmp_path: Path, start: Start, penstock: Command) -> None:
    rows(tmp_path, 3000)
    write(tmp_path, kept="")
    assert "no process runs streams.json" in penstock("reload", "streams.json").stderr
    one = start("run", "streams.json")
    one.wait_for(lambda: numbers(tmp_path, "kept*.jsonl"), "rows")
    write(tmp_path, kept="", added="")
    done = penstock("reload", "streams.json")
    assert (done.returncode, done.stdout) == (0, "started: added; 1 kept running\n"), done.stderr
    good = (tmp_path / "streams.json").read_text()
    (tmp_path / "streams.json").write_text(good.replace('"json"', '"jsin"'))
    assert penstock("reload", "streams.json").returncode == 1
    one.process.send_signal(signal.SIGHUP)
    one.wait_for(lambda: "the configuration was not changed" in one.stderr, "a refusal")
    (tmp_path / "streams.json").write_text(good.replace('"health_check"', '"data": "other", "health_check"'))
    assert "no process runs" in penstock("reload", "streams.json").stderr
    for name in ("kept", "added"):
        one.wait_for(lambda name=name: len(numbers(tmp_path, f"{name}*.jsonl")) >= 3000, f"rows of {name}")
    assert one.end(signal.SIGTERM) == 0
    for name in ("kept", "added"):
        assert numbers(tmp_path, f"{name}*.jsonl") == list(range(3000))
    assert not list((tmp_path / "penstock-data" / "running").glob("*.json"))


def test_a_kill_amid_reloads_loses_nothing(tmp_path: Path, start: Start) -> None:
    turns, each = 5, 400
    for turn in range(turns):
        rows(tmp_path, (turn + 1) * each)
        write(tmp_path, one=f"-{turn}")
        one = start("run", "streams.json")
        before = len(set(numbers(tmp_path, "one-*.jsonl")))
        one.wait_for(lambda before=before: len(set(numbers(tmp_path, "one-*.jsonl"))) > before, "rows")
        write(tmp_path, one=f"-{turn}-again", two=f"-{turn}")
        one.process.send_signal(signal.SIGHUP)
        if turn % 2:
            one.wait_for(lambda one=one: "read again" in one.stderr, "the reload")
        one.close()
    write(tmp_path, one="-last")
    last = start("run", "streams.json")
    every = set(range(turns * each))
    last.wait_for(lambda: set(numbers(tmp_path, "one-*.jsonl")) == every, "all rows")


def test_a_note_of_another_process_is_not_signalled(tmp_path: Path, penstock: Command, start: Start) -> None:
    rows(tmp_path, 10)
    write(tmp_path, one="")
    first = start("run", "streams.json")
    first.wait_for(lambda: numbers(tmp_path, "one*.jsonl"), "rows")
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait(timeout=60)
    [note] = (tmp_path / "penstock-data" / "running").glob("*.json")
    left: dict[str, Any] = json.loads(note.read_text())
    note.write_text(json.dumps({**left, "pid": os.getpid()}))
    assert "no process runs streams.json" in penstock("reload", "streams.json").stderr
