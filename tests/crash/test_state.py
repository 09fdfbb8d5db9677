"""Kill -9 a stream that keeps state: what it remembers and what it has written never disagree."""

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
KEYS = 2000


def deduplicating(folder: Path, **options: Any) -> dict[str, Any]:
    return {
        "id": "dedupe",
        "input": {"type": "file", "path": str(folder / "rows.jsonl"), "chunk_size": 600},
        "pipeline": {"thread_num": 2, "processors": [{"type": "dedupe", "key": "n"}, SLOW]},
        "output": database(folder),
        "checkpoint": "output",
        "max_in_flight": 2,
        **options,
    }


def add(path: Path, chance: random.Random, count: int = 1500) -> set[int]:
    """Add lines of which most are there already, near and far."""
    numbers = [chance.randrange(KEYS) for _ in range(count)]
    with path.open("a") as file:
        file.writelines(json.dumps({"n": n}) + "\n" for n in numbers)
    return set(numbers)


@pytest.mark.parametrize("logged", [False, True], ids=["replayed", "logged"])
def test_each_key_is_written_once(tmp_path: Path, logged: bool) -> None:
    chance = random.Random(7)
    lines = tmp_path / "rows.jsonl"
    keys = add(lines, chance)

    def more() -> None:
        keys.update(add(lines, chance))

    options = {"durability": {"path": str(tmp_path / "wal")}} if logged else {}
    with running(tmp_path, deduplicating(tmp_path, **options)) as process:
        kill_repeatedly(process, KILLS, chance, longest=0.3, more=more)
        process.start()
        assert process.wait() == 0, process.tail()
    written = Counter(n for (n,) in query(tmp_path / "out.db", "SELECT n FROM rows"))
    assert set(written) == keys
    assert sum(written.values()) == len(written)
