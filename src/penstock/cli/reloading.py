"""Apply a changed file to a process that runs it: by a signal, and the process notes how it went."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import IO, Any, Self

from ..config.configuration import load
from ..engine import Engine
from ..errors import ConfigError, PenstockError
from ..runtime.lock import lock

log = logging.getLogger("penstock")

ANSWER_TIMEOUT = 20.0
"""How long a process may take beyond the time for draining its streams, in seconds."""
POLL_INTERVAL = 0.05


def _note_of(data: Path, file: Path) -> Path:
    """Return the file in which the process that runs ``file`` notes its reloads."""
    name = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]
    return data / "running" / f"{name}.json"


class Reloads:
    """The reloads of this process: one at a time, each noted for who asked."""

    def __init__(self, engine: Engine, data: Path, file: Path | None) -> None:
        self._engine, self._note = engine, _note_of(data, file) if file is not None else None
        self._lock: IO[str] | None = None
        self._asked = 0
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        if self._note is not None:
            try:
                self._lock = lock(self._note.with_suffix(".lock"), "this file")
                self._write({})
            except (ConfigError, OSError) as error:  # it can still be reloaded by SIGHUP
                log.debug("no note of reloads is kept: %s", error)
                self._note = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            if self._note is not None:
                self._note.unlink(missing_ok=True)
            self._lock.close()

    def ask(self) -> None:
        """Read the configuration again, once what is under way has ended."""
        self._asked += 1
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._reload())

    async def _reload(self) -> None:
        done = 0
        while done < self._asked:
            done = self._asked
            try:
                outcome = {"changes": str(await self._engine.reload())}
            except PenstockError as error:
                log.error("the configuration was not changed: %s", error)
                outcome = {"error": str(error)}
            if self._note is not None:
                await asyncio.to_thread(self._write, outcome)

    def _write(self, outcome: dict[str, str]) -> None:
        assert self._note is not None
        part = self._note.with_suffix(".part")
        note = {"pid": os.getpid(), "reloads": self._asked, "timeout": self._engine.shutdown_timeout, **outcome}
        part.write_text(json.dumps(note))
        part.rename(self._note)

    async def close(self) -> None:
        """End what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


def reload(file: Path) -> str:
    """Have the process that runs ``file`` apply it; returns what has changed, or raises PenstockError."""
    note = _note_of(load(file).data, file)
    before = _read(note)
    if before is None or not _is_held(note.with_suffix(".lock")):
        raise PenstockError(f"no process runs {file}: start it with `penstock run {file}`")
    os.kill(before["pid"], signal.SIGHUP)
    deadline = time.monotonic() + before["timeout"] + ANSWER_TIMEOUT
    while time.monotonic() < deadline:
        after = _read(note)
        if after is None:
            raise PenstockError("the process has ended; its log says why")
        if after["reloads"] > before["reloads"]:
            if "error" in after:
                raise PenstockError(after["error"])
            return str(after["changes"])
        time.sleep(POLL_INTERVAL)
    raise PenstockError(f"process {before['pid']} has not answered in time; its log says how it goes on")


def _read(note: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(note.read_text())
    except FileNotFoundError:
        return None
    return found


def _is_held(path: Path) -> bool:
    """Tell whether a process holds the lock, which it lets go of by whatever end."""
    try:
        lock(path, "").close()
    except ConfigError:
        return True
    return False
