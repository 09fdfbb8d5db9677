"""Check a configuration: build every component, or open every component."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import typer

from ..checkpoint import Ledger
from ..component import Component
from ..config.configuration import Configuration, load
from ..context import Context
from ..state import open_store
from ..stream import Stream, regroups

OPEN_TIMEOUT = 15.0
"""How long a component may take to open, in seconds."""


def validated(file: Path) -> Iterator[str]:
    """Return what the streams of a file are, a line each; raises ConfigError with a line for each fault."""
    configuration = load(file)
    count = len(configuration.all_streams())
    yield f"{file}: valid, {count} stream{'' if count == 1 else 's'}"
    for stream in configuration.all_streams():
        yield f"  {stream.id}: {_shape(stream)}"
    for note in configuration.notes():
        yield f"  note: {note}"


def _shape(stream: Stream) -> str:
    inputs = [child.name or child.type_name for child in stream.input.children().values()]
    parts = [f"{stream.input.type_name} ({', '.join(inputs)})" if inputs else stream.input.type_name]
    parts += ["write-ahead log"] if stream.durability and stream.durability.enabled else []
    parts += [stream.buffer.type_name] if stream.buffer else []
    parts += [processor.type_name for processor in stream.pipeline.processors]
    parts += [stream.output.type_name]
    errors = f" (refused rows: {stream.error_output.type_name})" if stream.error_output else ""
    return " -> ".join(parts) + errors


def examine(file: Path) -> int:
    """Open and close every component and say how that went; returns the exit code."""
    configuration = load(file)
    width = max(len(f"{s.id}.{path}") for s in configuration.all_streams() for path, _ in s.components())
    failures = _say("data".ljust(width), (0.0, _why_not_writable(configuration.data)))
    with tempfile.TemporaryDirectory(prefix="penstock-doctor-") as folder:
        return 1 if failures + asyncio.run(_examine(configuration, Path(folder), width)) else 0


def _why_not_writable(folder: Path) -> str | None:
    """Why the engine could not keep its files there; makes nothing."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return None if there.is_dir() and os.access(there, os.W_OK) else f"cannot write to {there}"


async def _examine(configuration: Configuration, folder: Path, width: int) -> int:
    """Open all with a state and a folder that are thrown away; returns how many failed."""
    failures = 0
    if configuration.state is not None and "://" in configuration.state:
        failures += _say("state".ljust(width), await _timed(open_store(configuration.state)))
    async with open_store("memory") as store:
        context = Context("", store, Ledger(store.save), folder)
        for stream in configuration.all_streams():
            for path, component in stream.components():
                lent = replace(context, name=f"{stream.id}/{path}", checkpoints={}, kept_by={}, ledgers=[])
                name = f"{stream.id}.{path}".ljust(width)
                failures += _say(f"{name} {component.type_name}", await _timed(_opened(component, lent)))
    return failures


@asynccontextmanager
async def _opened(component: Component, context: Context) -> AsyncIterator[None]:
    regrouping = regroups(component) if hasattr(component, "process") else None  # type: ignore[arg-type]
    async with (regrouping or component).open(context):  # type: ignore[attr-defined]
        yield


async def _timed(opening: object) -> tuple[float, str | None]:
    """How long it took to open and close, and what went wrong if anything did."""
    started, failure = time.perf_counter(), None
    try:
        async with asyncio.timeout(OPEN_TIMEOUT):
            async with opening:  # type: ignore[attr-defined]
                pass
    except TimeoutError:
        failure = f"not open after {OPEN_TIMEOUT:g} s"
    except Exception as error:  # whatever a component raises is what it is asked for here
        failure = str(error) or type(error).__name__
    return time.perf_counter() - started, failure


def _say(name: str, report: tuple[float, str | None]) -> int:
    took, failure = report
    mark = typer.style("ok  ", fg="green") if failure is None else typer.style("FAIL", fg="red")
    typer.echo(f"{mark} {took:6.3f} s  {name}{f': {failure}' if failure else ''}")
    return int(failure is not None)
