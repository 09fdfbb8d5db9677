"""On what was measured: the hardware, the versions, and who else uses the machine."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("penstock", "pyarrow", "datafusion", "polars", "msgspec", "uvicorn", "uvloop", "psycopg", "duckdb")
BUSY_LOAD = 0.7
BUSY_OTHERS = 0.1


def description() -> list[str]:
    """Return the lines that a table of figures needs."""
    libraries = ", ".join(f"{name} {found}" for name in LIBRARIES if (found := _version(name)))
    return [
        f"{_processor()}, {os.cpu_count()} cores, {_memory():.0f} GB memory, {platform.system()} {platform.release()}",
        f"{platform.python_implementation()} {platform.python_version()}; {libraries}",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    ]


@dataclass
class Company:
    """How busy the machine was with other things."""

    load: float = 0.0
    """The load average before."""
    others: float = 0.0
    """How many cores other processes kept busy meanwhile."""

    @property
    def warning(self) -> str:
        """Why the figure is not to be trusted; empty if it is."""
        if self.others > BUSY_OTHERS:
            return f"others used {self.others:.2f} cores"
        return f"load {self.load:.1f}" if self.load > BUSY_LOAD else ""


@contextmanager
def company() -> Iterator[Company]:
    """Watch what other processes use while this one and its children work."""
    found = Company(load=os.getloadavg()[0])
    busy, own, began = _busy_seconds(), _own_seconds(), time.monotonic()
    yield found
    passed = max(time.monotonic() - began, 1e-9)
    found.others = max(0.0, (_busy_seconds() - busy) - (_own_seconds() - own)) / passed


def _busy_seconds() -> float:
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
