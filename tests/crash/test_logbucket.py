"""A write-ahead log in a bucket after kills, each time on a machine of its own: what was answered 200 is kept."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.servers import free_port

from .harness import Process, query

pytestmark = [pytest.mark.crash, pytest.mark.server, pytest.mark.timeout(600)]


def post(port: int, number: int) -> bool:
    """Post a row; returns whether it was answered 200."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        try:
            connection.request("POST", "/rows", json.dumps({"n": number}), {"content-type": "application/json"})
            return connection.getresponse().status == 200
        except OSError:
            return False


def test_kills_and_lost_machines_lose_nothing(tmp_path: Path, s3_endpoint: str) -> None:
    port, chance, number = free_port(), random.Random(7), 0
    accepted: set[int] = set()
    s3 = {"bucket": "penstock", "endpoint": s3_endpoint, "allow_http": True, "region": "us-east-1"}
    backend = {
        "type": "object_store",
        "node_id": "crashing",
        "stream_id": "rows",
        "cursor": {"max_entries": 5, "interval": "50ms"},
        "s3": {**s3, "access_key_id": "a", "secret_access_key": "b"},
    }
    table = tmp_path / "out.db"
    stream: dict[str, Any] = {
        "id": "rows",
        "input": {"type": "http", "address": f"127.0.0.1:{port}", "path": "/rows", "codec": "json"},
        "durability": {"backend": backend},
        "output": {"type": "sql", "url": f"sqlite:///{table}", "table_name": "rows"},
    }
    for turn in range(6):
        # Half of the time the output is away, so that rows stay in the log.
        away = {"type": "http", "url": "http://127.0.0.1:1/"}
        folder = tmp_path / "machine"
        if turn % 3 == 2:
            shutil.rmtree(folder)
        folder.mkdir(exist_ok=True)
        output = away if turn % 2 else stream["output"]
        process = Process(folder, {"streams": [{**stream, "output": output}]})
        process.start()
        process.wait_until_running()
        until = time.monotonic() + chance.uniform(0.1, 0.6)
        before = len(accepted)
        while time.monotonic() < until or len(accepted) == before:
            number += 1
            if post(port, number):
                accepted.add(number)
            assert not process.has_ended(), process.tail()
        process.kill()
    folder = tmp_path / "last"
    folder.mkdir()
    process = Process(folder, {"streams": [stream]})
    process.start()
    process.wait_for(lambda: accepted <= {row for (row,) in query(table, "SELECT n FROM rows")}, "all rows")
    process.terminate()
    assert len(accepted) >= 6
