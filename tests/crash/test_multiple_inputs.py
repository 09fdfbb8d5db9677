"""Kill -9 a stream of several inputs: each goes on where its own rows were written."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from .harness import kill_repeatedly, query
from .test_kill import KILLS, SLOW, database, running

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]


@pytest.mark.parametrize("logged", [False, True], ids=["replayed", "logged"])
def test_each_row_of_each_input_is_written_once(tmp_path: Path, logged: bool) -> None:
    counts = Counter[str]()

    def add(name: str, count: int) -> None:
        with (tmp_path / f"{name}.jsonl").open("a") as file:
            for n in range(counts[name], counts[name] + count):
                file.write(json.dumps({"n": n, "of": name}) + "\n")
        counts[name] += count

    def more() -> None:
        add("left", 400)
        add("right", 100)

    more()
    inputs = [
        {"type": "file", "name": name, "path": str(tmp_path / f"{name}.jsonl"), "chunk_size": 600} for name in counts
    ]
    stream: dict[str, Any] = {
        "id": "merged",
        "input": {"type": "multiple_inputs", "inputs": inputs},
        "pipeline": {"thread_num": 2, "processors": [SLOW]},
        "output": database(tmp_path),
        "checkpoint": "output",
        "max_in_flight": 2,
        **({"durability": {"path": str(tmp_path / "wal")}} if logged else {}),
    }
    with running(tmp_path, stream) as process:
        kill_repeatedly(process, KILLS if not logged else 5, random.Random(11), longest=0.3, more=more)
        process.start()
        assert process.wait() == 0, process.tail()
    found = Counter(query(tmp_path / "out.db", 'SELECT "of", n FROM rows'))
    assert set(found) == {(name, n) for name, count in counts.items() for n in range(count)}
    if not logged:  # what was not yet acked to the log is read again
        assert sum(found.values()) == len(found)
