"""How long ``penstock up`` takes until it is ready, and how much memory it needs to do nothing."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from .case import Case, Sample, memory, processor_seconds
from .server import running, wait_for

_IDLE = 5.0


def _up(folder: Path) -> Sample:
    from penstock.testing.servers import free_port

    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "penstock", "up", "--address", address]
    command += ["--data", str(folder / "data"), "--inbox", str(folder / "inbox")]
    log = folder / "log"
    began = time.perf_counter()
    with running(command, log) as pid:
        wait_for(f"http://{address}/readiness", pid, log)
        ready = time.perf_counter() - began
        cpu = processor_seconds(pid)
        time.sleep(_IDLE)
        idle = processor_seconds(pid) - cpu
        return Sample(ready, cpu, memory(pid), {"idle MB": memory(pid), "idle CPU %": idle / _IDLE * 100})


CASES = [
    Case(
        "start-up",
        "start-up",
        "Penstock: `penstock up` until /readiness answers 200",
        "s",
        _up,
        reach=3,
        more_is_better=False,
        limits={"idle MB": 300},
        runs=3,
    )
]
