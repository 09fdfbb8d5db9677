"""Two processes of one installation on one PostgreSQL: a job that is for one of them at a time is done by one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPLICA = """
import asyncio, os, sys
from pathlib import Path
from penstock.application import Application, Installation, Job
from penstock.engine import Engine
from penstock.platform.application import ApplicationService

NOTES = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(what):
    os.write(NOTES, f"{what} {os.getpid()}\\n".encode())

class Chores(Application, type="chores"):
    '''An application without tables.'''

    def jobs(self, platform):
        async def work(platform):
            note("begin")
            await asyncio.sleep(0.02)
            note("end")

        async def tick(platform):
            note("tick")

        return [Job("work", 0.01, work), Job("tick", 0.05, tick, once_per_cluster=False)]

installation = Installation(data=Path(sys.argv[1]), database=sys.argv[3], address="127.0.0.1:0")
asyncio.run(Engine([], [ApplicationService(Chores(), installation)], data=installation.data).run())
"""


@contextmanager
def replicas(tmp_path: Path, database: str) -> Iterator[tuple[list[subprocess.Popen[bytes]], Callable[[], list[str]]]]:
    """Run two replicas, each with a data folder of its own; yield them and what reads their notes."""
    notes = tmp_path / "notes"
    command = [sys.executable, "-c", REPLICA]
    running = [
        subprocess.Popen([*command, str(tmp_path / name), str(notes), database], stderr=subprocess.DEVNULL)
        for name in ("a", "b")
    ]
    try:
        yield running, lambda: notes.read_text().splitlines() if notes.exists() else []
    finally:
        for process in running:
            process.kill()
            process.wait()


def wait_until(is_met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 50
    while not is_met():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def ticking(notes: list[str]) -> set[str]:
    return {line for line in notes if line.startswith("tick")}


@pytest.mark.server
def test_a_job_is_done_by_one_process_at_a_time_and_by_the_other_once_that_is_killed(
    postgres_database: str, tmp_path: Path
) -> None:
    with replicas(tmp_path, postgres_database) as (running, notes):
        wait_until(lambda: len(ticking(notes())) == 2)  # both are at work
        before = len(notes())
        wait_until(lambda: sum(line.startswith("end") for line in notes()[before:]) >= 20)
        victim, survivor = running
        wait_until(lambda: notes()[-1:] == [f"begin {victim.pid}"] or notes()[-1:] == [f"end {victim.pid}"])
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
        done = len(notes())
        wait_until(lambda: notes()[done:].count(f"end {survivor.pid}") >= 5)
        found = [line.split() for line in notes() if not line.startswith("tick")]
    alone: str | None = None
    for what, process in found:
        if what == "begin":
            assert alone is None or alone == str(victim.pid), "two processes were at it at once"
            alone = process
        else:
            assert alone == process
            alone = None
    assert {process for _, process in found} == {str(one.pid) for one in running}
