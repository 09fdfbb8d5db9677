"""Kill -9 a stream that reads changes of PostgreSQL: every row is written once, those of the snapshot too."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from penstock.testing.servers import PostgresServer

from .harness import kill_repeatedly, query
from .test_kill import KILLS, SLOW, database, running

pytestmark = [pytest.mark.crash, pytest.mark.server, pytest.mark.timeout(600)]


def test_each_change_is_written_exactly_once(tmp_path: Path) -> None:
    with PostgresServer(wal_level="logical", fsync=False) as server, psycopg.connect(server.url, autocommit=True) as db:
        db.execute("CREATE TABLE source (n int PRIMARY KEY)")
        count = 0

        def add(rows: int) -> None:
            nonlocal count
            db.execute(f"INSERT INTO source SELECT generate_series({count}, {count + rows - 1})")
            count += rows

        add(1500)
        stream = {
            "id": "copy",
            "input": {"type": "postgres_cdc", "url": server.url, "tables": ["source"], "batch_size": 50},
            "pipeline": {"thread_num": 2, "processors": [SLOW, {"type": "sql", "query": "SELECT n, op FROM flow"}]},
            "output": database(tmp_path),
            "checkpoint": "output",
            "max_in_flight": 4,
        }
        with running(tmp_path, stream) as process:
            kill_repeatedly(process, KILLS // 2, random.Random(7), more=lambda: add(200))
            add(3000)
            kill_repeatedly(process, KILLS, random.Random(8), more=lambda: add(200))
            add(100)
            process.start()
            found: Counter[int] = Counter()
            while len(found) < count:
                assert not process.has_ended(), process.tail()
                time.sleep(0.05)
                found = Counter(n for (n,) in query(tmp_path / "out.db", "SELECT n FROM rows"))
            code, seconds = process.terminate()
        assert code == 0, process.tail()
        assert seconds < 30
    doubled = sum(found.values()) - len(found)
    kinds = Counter(op for (op,) in query(tmp_path / "out.db", "SELECT op FROM rows"))
    print(f"postgres_cdc: {process.kills} kills, {count} rows, {count - len(found)} lost, {doubled} doubled, {kinds}")
    assert set(found) == set(range(count))
    assert doubled == 0
