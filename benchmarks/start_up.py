"""What it costs to begin: the command line, a small run, and ``penstock up`` until it is ready and while it is idle."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from .case import Case, Sample, memory, processor_seconds
from .server import running, wait_for

_IDLE = 5.0
_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""What is installed has its bytecode: where it lacks, the first run writes it."""
_ONE_ROW = """
streams:
  - input: {type: generate, context: {n: 1}, interval: 1ms, count: 1, codec: json}
    output: {type: stdout}
health_check: {enabled: false}
"""


def _help(folder: Path) -> Sample:
    return _command(folder, "--help")


def _one_row(folder: Path) -> Sample:
    (folder / "one.yaml").write_text(_ONE_ROW)
    return _command(folder, "run", "one.yaml")


def _command(folder: Path, *arguments: str) -> Sample:
    """Measure the processor time of a command from its start to its end, which does not depend on other processes."""
    command = [sys.executable, "-m", "penstock", *arguments]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, **_BYTECODE}, stdout=quiet, stderr=quiet)
    _, status, used = os.wait4(process.pid, 0)  # its maxrss would be that of this process, which forked it
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"penstock {' '.join(arguments)} ended with {process.returncode}")
    cpu = used.ru_utime + used.ru_stime
    return Sample(cpu, cpu)


def _up(folder: Path) -> Sample:
    from penstock.testing.servers import free_port

    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "penstock", "up", "--address", address]
    command += ["--data", str(folder / "data"), "--inbox", str(folder / "inbox")]
    log = folder / "log"
    began = time.perf_counter()
    with running(command, log, _BYTECODE) as pid:
        wait_for(f"http://{address}/readiness", pid, log)
        ready = time.perf_counter() - began
        cpu = processor_seconds(pid)
        time.sleep(_IDLE)
        idle = processor_seconds(pid) - cpu
        return Sample(ready, cpu, memory(pid), {"idle MB": memory(pid), "idle CPU %": idle / _IDLE * 100})


CASES = [
    Case(
        "start-up.help",
        "start-up",
        "Penstock: `penstock --help`, processor time",
        "s",
        _help,
        reach=0.25,
        more_is_better=False,
    ),
    Case(
        "start-up.run",
        "start-up",
        "Penstock: `penstock run` of one row from `generate` to `stdout`, processor time",
        "s",
        _one_row,
        reach=0.3,
        more_is_better=False,
    ),
    Case(
        "start-up",
        "start-up",
        "Penstock: `penstock up` until /readiness answers 200",
        "s",
        _up,
        reach=1.5,
        more_is_better=False,
        limits={"idle MB": 180},
        runs=3,
    ),
]
