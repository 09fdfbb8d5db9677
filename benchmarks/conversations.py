"""Conversations of coding agents: how fast logs are imported, and how soon a search of them answers."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .case import Case, Sample, measured, peak_memory

_MEGABYTES = 100
_SESSION = 500
"""Lines of a session."""
_SEARCHES = 200
_START = datetime(2026, 1, 1, tzinfo=UTC)
_BEGINNINGS, _MIDDLES = ("pre", "un", "re", "over", "mis"), ("mig", "test", "pars", "rend", "lock", "form")
_WORDS = [f"{a}{b}{c}" for a in _BEGINNINGS for b in _MIDDLES for c in ("er", "ing", "ation", "ed", "able", "ly")]


def _imported(folder: Path) -> Sample:
    """Import logs of many sessions into SQLite, searched and counted."""
    size = _write(folder / "logs", _MEGABYTES)
    with measured() as span:
        _import(folder)
    return Sample(size / 1e6 / span.seconds, span.cpu, peak_memory(), {"MB": size / 1e6})


def _indexed(folder: Path) -> Sample:
    """The same lines into one table with a full-text index, in transactions of 4000: nothing is read in them."""
    size = _write(folder / "logs", _MEGABYTES)
    connection = sqlite3.connect(folder / "lines.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE lines (id INTEGER PRIMARY KEY, line BLOB)")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5 (line, content='')")
    with measured() as span:
        waiting: list[bytes] = []
        for file in sorted((folder / "logs").rglob("*.jsonl")):
            waiting += file.read_bytes().splitlines()
            if len(waiting) >= 4000:
                _insert(connection, waiting)
        _insert(connection, waiting)
    connection.close()
    return Sample(size / 1e6 / span.seconds, span.cpu, peak_memory())


def _insert(connection: sqlite3.Connection, waiting: list[bytes]) -> None:
    connection.execute("BEGIN")
    last = connection.execute("SELECT coalesce(max(id), 0) FROM lines").fetchone()[0]
    connection.executemany("INSERT INTO lines (line) VALUES (?)", ([line] for line in waiting))
    connection.execute("INSERT INTO words (rowid, line) SELECT id, CAST(line AS TEXT) FROM lines WHERE id > ?", [last])
    connection.execute("COMMIT")
    waiting.clear()


def _searched(folder: Path) -> Sample:
    """Search what was imported for two words, the first page with snippets."""
    from penstock.apps.conversations.reading.search import find, parse
    from penstock.platform.database import Database

    _write(folder / "logs", _MEGABYTES)
    _import(folder)
    database, chosen = Database.of(f"sqlite:///{folder}/data/penstock-conversations.db"), random.Random(1)
    took = []
    for _ in range(_SEARCHES):
        asked = parse(" ".join(chosen.sample(_WORDS, 2)))
        began = time.perf_counter()
        database.call(lambda connection, asked=asked: find(connection, asked, 50))  # type: ignore[misc]
        took.append((time.perf_counter() - began) * 1000)
    database.close()
    took.sort()
    return Sample(took[int(_SEARCHES * 0.95)], None, peak_memory(), {"p50 ms": took[_SEARCHES // 2]})


def _import(folder: Path) -> None:
    from penstock.application import Installation
    from penstock.apps.conversations.application import Conversations
    from penstock.engine import Engine

    installation = Installation(data=folder / "data", environment={})
    streams = Conversations().read(folder / "logs", installation, follow=False)
    asyncio.run(Engine(streams, data=installation.data).run())


def _write(folder: Path, megabytes: int) -> int:
    """Write sessions of prompts, answers, tools and their results; return the bytes."""
    chosen, size, session = random.Random(0), 0, 0
    while size < megabytes * 1_000_000:
        file = folder / f"project{session % 20}" / f"{session:08x}-0000-4000-8000-000000000000.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        size += file.write_bytes(b"".join(_lines(chosen, session)))
        session += 1
    return size


def _lines(chosen: random.Random, session: int) -> Iterator[bytes]:
    for number in range(_SESSION):
        said = " ".join(chosen.choices(_WORDS, k=chosen.choice((20, 40, 400))))
        content, type = _CONTENTS[number % 4](said, number, session)
        message = {"role": type, "content": content}
        if type == "assistant":
            usage = {"input_tokens": 9, "output_tokens": number, "cache_read_input_tokens": 4000}
            message |= {"id": f"msg_{session}_{number}", "model": "claude-sonnet-4-20250514", "usage": usage}
        line = {
            "parentUuid": f"{session:08x}-{number - 1:04x}" if number else None,
            "isSidechain": False,
            "cwd": "/home/me/shop",
            "sessionId": f"{session:08x}-0000-4000-8000-000000000000",
            "version": "2.1.0",
            "gitBranch": "main",
            "type": type,
            "message": message,
            "uuid": f"{session:08x}-{number:04x}",
            "timestamp": (_START + timedelta(hours=session, seconds=number)).isoformat().replace("+00:00", ".000Z"),
        }
        yield json.dumps(line).encode() + b"\n"


_CONTENTS: list[Callable[[str, int, int], tuple[Any, str]]] = [
    lambda said, number, session: (said, "user"),
    lambda said, number, session: ([{"type": "text", "text": said}], "assistant"),
    lambda said, number, session: (
        [{"type": "tool_use", "id": f"t{session}_{number}", "name": "Bash", "input": {"command": said}}],
        "assistant",
    ),
    lambda said, number, session: (
        [{"type": "tool_result", "tool_use_id": f"t{session}_{number - 1}", "content": said}],
        "user",
    ),
]

CASES = [
    Case(
        "conversations-import",
        "conversations",
        f"Penstock: {_MEGABYTES} MB of logs into SQLite, searched and counted",
        "MB/s",
        _imported,
        reach=60,
        runs=3,
    ),
    Case(
        "conversations-import-index",
        "conversations",
        "the same lines into one table with FTS5, by executemany",
        "MB/s",
        _indexed,
        role="ceiling",
        runs=3,
    ),
    Case(
        "conversations-search",
        "conversations",
        "Penstock: two words in these logs, first page with snippets, p95",
        "ms",
        _searched,
        reach=100,
        more_is_better=False,
        runs=3,
    ),
]
