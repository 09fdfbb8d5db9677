"""Kill -9 a stream that reads from a broker: every row is written, and few of them twice."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from ..faults.brokers import BROKERS, Broker
from .harness import kill_repeatedly, query
from .test_kill import KILLS, SLOW, database, running

pytestmark = [pytest.mark.crash, pytest.mark.server, pytest.mark.timeout(600)]
ROWS = 6000


@pytest.mark.parametrize("kind", BROKERS, ids=lambda kind: kind.__name__.lower())
def test_no_row_of_a_broker_is_lost(tmp_path: Path, kind: type[Broker]) -> None:
    with kind.serve(undisturbed=True) as server:
        broker = kind(server)
        asyncio.run(broker.prepare())
        asyncio.run(broker.produce(range(ROWS)))
        produced = ROWS
        stream = {
            "id": "copy",
            "input": broker.input(broker.port),
            "pipeline": {"thread_num": 2, "processors": [SLOW]},
            "output": database(tmp_path),
            "max_in_flight": 4,
        }
        with running(tmp_path, stream) as process:
            kill_repeatedly(process, KILLS, random.Random(11))
            asyncio.run(broker.produce(range(produced, produced + 100)))
            produced += 100
            process.start()
            found: Counter[int] = Counter()
            while not set(found) >= set(range(produced)):
                assert not process.has_ended(), process.tail()
                time.sleep(0.05)
                found = Counter(n for (n,) in query(tmp_path / "out.db", "SELECT n FROM rows"))
            code, seconds = process.terminate()
            assert code == 0, process.tail()
            assert seconds < 30
        broker.close()
    doubled = sum(count - 1 for count in found.values())
    print(f"{kind.__name__}: {process.kills} kills, {produced} rows, 0 lost, {doubled} doubled")
    assert set(found) == set(range(produced))
