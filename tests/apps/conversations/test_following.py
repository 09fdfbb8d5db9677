"""Logs are followed by a whole process that is killed again and again, while agents write as they do."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from penstock.testing.forks import Fork
from penstock.testing.servers import free_port
from penstock.testing.waiting import until

from .conftest import line

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]

KILLS = 20
COUNTS = (
    "SELECT sum(lines) FROM conversations_sessions",
    "SELECT count(*) FROM conversations_search WHERE conversations_search MATCH 'line'",
)
"""What finds each line once."""


class Agent:
    """Writes logs in pieces that end anywhere, and now and then writes one of them anew without its older lines."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._random = folder, random.Random(7)
        self._contents: dict[Path, list[bytes]] = {}
        self._number = 0
        self.written: Counter[bytes] = Counter()

    def write(self) -> None:
        """Write some lines to one of the files; what was written at once may end in the middle of a line."""
        file = self._folder / f"project{self._random.randrange(3)}" / f"s{self._random.randrange(2)}.jsonl"
        file.parent.mkdir(exist_ok=True)
        lines = [self._line() for _ in range(self._random.randint(1, 30))]
        self._contents.setdefault(file, []).extend(lines)
        whole = _joined(lines)
        cut = self._random.randrange(len(whole))
        with file.open("ab", buffering=0) as log:
            log.write(whole[:cut])
            log.write(whole[cut:])
        self.written.update(lines)

    def compact(self) -> None:
        """Write the longest file anew, without some of its older lines."""
        file, content = max(self._contents.items(), key=lambda one: len(one[1]))
        lines = [self._line()]
        content[:] = [*content[:2], *content[-20:], *lines]
        anew = file.with_suffix(".part")
        anew.write_bytes(_joined(content))
        anew.replace(file)
        self.written.update(lines)

    def _line(self) -> bytes:
        self._number += 1
        return line(content=f"line {self._number} {'x' * self._random.randrange(200)}", uuid=f"u{self._number}")


class Process:
    """``penstock up`` that follows a folder of logs."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._log = folder, folder / "up.log"
        self.database = folder / "data" / "penstock-conversations.db"
        self._process: Fork | None = None

    def start(self) -> None:
        config = self._folder / "up.yaml"
        config.write_text(
            f"data: {self._folder}/data\nhealth_check: {{address: '127.0.0.1:{free_port()}'}}\n"
            f"applications:\n  - {{type: conversations, roots: ['{self._folder}/logs']}}\n"
        )
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
        self._process = Fork(("-m", "penstock"), ("up", "--config", str(config)), log=self._log, env=environment)

    def check(self) -> None:
        """Raise unless it runs."""
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-2000:]

    def close(self) -> None:
        """Leave nothing running."""
        if self._process is not None:
            self._process.kill()

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(120)

    def stored(self) -> Counter[bytes]:
        """Return all lines that are stored."""
        if not self.database.exists():
            return Counter()
        with closing(sqlite3.connect(self.database, timeout=30)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'conversations_lines'").fetchone():
                return Counter()
            return Counter(bytes(one) for (one,) in connection.execute("SELECT line FROM conversations_lines"))

    def ask(self, query: str) -> int:
        """Return the number that a query gives."""
        with closing(sqlite3.connect(self.database, timeout=30)) as connection:
            return int(connection.execute(query).fetchone()[0])


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(one + b"\n" for one in lines)


async def test_no_line_is_lost_or_doubled_though_the_process_is_killed_twenty_times(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    await asyncio.to_thread((tmp_path / "logs").mkdir)
    agent, process = Agent(tmp_path / "logs"), Process(tmp_path)

    async def soon(has_come: Callable[[], bool]) -> None:
        def look() -> bool:
            process.check()
            return has_come()

        await until(lambda: asyncio.to_thread(look))

    request.addfinalizer(process.close)
    for number in range(KILLS):
        await asyncio.to_thread(process.start)
        if number % 4 == 3:  # what was compacted away before it was read is nobody's
            await soon(lambda: process.stored() == agent.written)
            await asyncio.to_thread(agent.compact)
        before = (await asyncio.to_thread(process.stored)).total()
        for _ in range(4):
            await asyncio.to_thread(agent.write)
        await soon(lambda before=before: process.stored().total() > before)  # type: ignore[misc]
        await asyncio.to_thread(agent.write)
        assert await asyncio.to_thread(process.end, signal.SIGKILL) == -signal.SIGKILL
    await asyncio.to_thread(process.start)
    await soon(lambda: process.stored().total() >= agent.written.total())
    assert await asyncio.to_thread(process.end, signal.SIGTERM) == 0
    assert await asyncio.to_thread(process.stored) == agent.written
    assert (
        await asyncio.to_thread(process.ask, "SELECT sum(lines) FROM conversations_sessions") == agent.written.total()
    )
    found = await asyncio.to_thread(
        process.ask, "SELECT count(*) FROM conversations_search WHERE conversations_search MATCH 'line'"
    )
    assert found == agent.written.total()
