"""A case is one thing to measure, in a process of its own; a sample is what one run of it found."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["penstock", "ceiling", "peer"]


@dataclass(frozen=True)
class Sample:
    """What one run found."""

    value: float
    cpu: float | None = None
    """Processor seconds of the measured span, of this process alone."""
    rss: float | None = None
    """The most memory the measured process had, in MB."""
    notes: Mapping[str, float] = field(default_factory=dict)
    """Other figures of the same run."""


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    group: str
    what: str
    unit: str
    measure: Callable[[Path], Sample]
    """Called in a fresh process with a folder that is empty and goes away."""
    reach: float | None = None
    """What is to be reached: at least this where more is better, else at most."""
    more_is_better: bool = True
    limits: Mapping[str, float] = field(default_factory=dict)
    """The most that figures among the notes may be."""
    role: Role = "penstock"
    runs: int | None = None
    """How often it is measured at most, where a run takes long."""
    warm: Callable[[], object] | None = None
    """Called before, in the parent: makes the data, or raises Unavailable."""


class Unavailable(RuntimeError):
    """Something that a case needs is not installed; says what."""


@dataclass
class Span:
    """A measured span of time."""

    seconds: float = 0.0
    cpu: float = 0.0


@contextmanager
def measured() -> Iterator[Span]:
    """Measure the time and the processor time of what is done within."""
    span = Span()
    cpu, began = time.process_time(), time.perf_counter()
    yield span
    span.seconds, span.cpu = time.perf_counter() - began, time.process_time() - cpu


def peak_memory(pid: int | str = "self") -> float:
    """Return the most memory a process has had, in MB; unlike getrusage, without what its parent had."""
    return _status(pid, "VmHWM")


def memory(pid: int | str = "self") -> float:
    """Return the memory a process has, in MB."""
    return _status(pid, "VmRSS")


def processor_seconds(pid: int) -> float:
    """Return the processor time that another process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int | str, key: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/status has no {key}")


def rate(rows: int, span: Span, **notes: float) -> Sample:
    """Rows a second, with the memory that was needed."""
    return Sample(rows / span.seconds, span.cpu, peak_memory(), notes)
