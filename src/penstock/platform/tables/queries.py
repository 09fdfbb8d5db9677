"""Run the queries of people: each in a process of its own, a few at once, cancelled by their ids."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ...clients.database import Postgres, Sqlite
from ...errors import PermanentError, TransientError
from ..access.schema import OWNER
from .places import HIDDEN, Place
from .reader import Stopped
from .worker import MAX_CELL_SIZE, Outcome, Task

MAX_RUNNING = 4
"""How many queries run at once."""
QUERY_TIMEOUT = 30.0
DOWNLOAD_TIMEOUT = 600.0
MAX_MEMORY = 1_000_000_000
"""Bytes that a process of a query may allocate."""
MAX_ATTACHED = 10
"""How many files SQLite reads together."""
STOP_TIMEOUT = 2.0
"""How long a process has to end by itself."""
_WORKER = f"{__package__}.worker"
_BLOCK_SIZE = 256 * 1024


class Result(msgspec.Struct):
    """What a query found."""

    columns: list[str]
    rows: list[Any]
    is_cut: bool
    """Whether there are more rows, or longer cells, than are shown."""
    seconds: float


@dataclass
class Queries:
    """The queries that run, by user and id."""

    timeout: float = QUERY_TIMEOUT
    memory: int = MAX_MEMORY
    _running: dict[tuple[int, str], asyncio.subprocess.Process] = field(default_factory=dict)
    _cancelled: set[tuple[int, str]] = field(default_factory=set)

    def task(self, places: Mapping[str, Place], name: str, sql: str, *, limit: int, format: str = "") -> Task:
        """Return a query as the process is given it; raises PermanentError where there is nothing to query."""
        place = places[name]
        timeout = DOWNLOAD_TIMEOUT if format else self.timeout
        task = Task(place.engine, sql, timeout, limit, self.memory, format=format)
        if place.user is not None:
            raise PermanentError("SQL sees the rows of all; these tables are open to you row by row only")
        together = [place, *(one for one in places.values() if one is not place and _is_together(place, one))]
        if isinstance(place.where, Postgres):
            from ...clients.postgres import conninfo

            task.conninfo = conninfo(place.where)
            task.schemas = [one.schema for one in together]
        else:
            task.files = {one.name: str(one.file) for one in together[:MAX_ATTACHED] if one.file and one.file.exists()}
            if not task.files:
                raise PermanentError("nothing is stored there yet")
        task.hidden = {OWNER: sorted(HIDDEN)}
        return task

    async def run(self, task: Task, user: int, id: str) -> Result:
        """Return what a query finds; raises PermanentError, Stopped, or TransientError if too many run."""
        clock = asyncio.get_running_loop().time
        started = clock()
        async with self._process(task, user, id) as process:
            output, _ = await process.communicate(msgspec.json.encode(task))
        lines = output.splitlines()
        outcome = self._outcome(lines[-1] if lines else b"", process, (user, id))
        if outcome.error and _is_held(task, outcome.error):
            return await asyncio.to_thread(_beside_the_writer, task)
        if outcome.error:
            raise PermanentError(outcome.error)
        columns = msgspec.json.decode(lines[0], type=list[str])
        rows = [msgspec.Raw(line) for line in lines[1:-1]]
        return Result(columns, rows, outcome.is_cut, round(clock() - started, 3))

    async def download(self, task: Task, user: int, id: str) -> AsyncIterator[bytes]:
        """Yield what a query finds as a file; what is wrong with it is raised before the first piece."""
        async with self._process(task, user, id) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdin.write(msgspec.json.encode(task))
            process.stdin.close()
            errors = asyncio.ensure_future(process.stderr.read())
            try:
                while piece := await process.stdout.read(_BLOCK_SIZE):
                    yield piece
                lines = (await errors).splitlines()
                await process.wait()
            finally:
                errors.cancel()
            outcome = self._outcome(lines[-1] if lines else b"", process, (user, id))
            if outcome.error:
                raise PermanentError(outcome.error)

    def cancel(self, user: int, id: str) -> bool:
        """End a query; return whether it ran."""
        process = self._running.get((user, id))
        if process is None:
            return False
        self._cancelled.add((user, id))
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return True

    @contextlib.asynccontextmanager
    async def _process(self, task: Task, user: int, id: str) -> AsyncIterator[asyncio.subprocess.Process]:
        if len(self._running) >= MAX_RUNNING:
            raise TransientError("too many queries run at once; try again")
        if (user, id) in self._running:
            raise PermanentError("a query of this id runs already")
        pipe = asyncio.subprocess.PIPE
        errors = pipe if task.format else asyncio.subprocess.DEVNULL
        arguments = [sys.executable, "-m", _WORKER]
        process = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe, stderr=errors)
        self._running[user, id] = process
        try:
            async with asyncio.timeout(task.timeout + 2 * STOP_TIMEOUT):
                yield process
        except TimeoutError:
            raise Stopped(f"it took longer than {task.timeout:g} seconds") from None
        finally:
            self._running.pop((user, id), None)
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def _outcome(self, line: bytes, process: asyncio.subprocess.Process, key: tuple[int, str]) -> Outcome:
        if key in self._cancelled:
            self._cancelled.discard(key)
            raise Stopped("the query was cancelled")
        try:
            return msgspec.json.decode(line, type=Outcome)
        except msgspec.DecodeError:
            return Outcome("the query needed too much memory, and was ended")


def _is_held(task: Task, error: str) -> bool:
    """Tell whether a file of DuckDB could not be opened because this process writes it."""
    return task.engine == "duckdb" and "lock on file" in error


def _beside_the_writer(task: Task) -> Result:
    """Run a query of a DuckDB file beside its writer, which is this process: no other may open it meanwhile."""
    import threading
    import time
    from pathlib import Path

    import duckdb

    from ...clients.duckdb import connect_read_only
    from .cells import show
    from .guards import check_duckdb

    started = time.monotonic()
    [file] = task.files.values()
    try:
        with connect_read_only(Path(file)) as connection:
            timer = threading.Timer(task.timeout, connection.interrupt)
            timer.start()
            try:
                check_duckdb(connection, task.sql, {name for names in task.hidden.values() for name in names})
                cursor = connection.execute(task.sql)
                found = cursor.fetchmany(task.limit + 1)
            finally:
                timer.cancel()
            cells = [[show(cell, MAX_CELL_SIZE) for cell in row] for row in found[: task.limit]]
            is_cut = len(found) > task.limit or any(cell.is_cut for row in cells for cell in row)
            names = [column[0] for column in cursor.description or ()]
            rows: list[Any] = [[cell.value for cell in row] for row in cells]
            return Result(names, rows, is_cut, round(time.monotonic() - started, 3))
    except duckdb.InterruptException:
        raise Stopped(f"it took longer than {task.timeout:g} seconds") from None
    except duckdb.Error as error:
        raise PermanentError(str(error).partition("\n\nLINE")[0]) from error


def _is_together(place: Place, other: Place) -> bool:
    """Tell whether one query can read both."""
    if other.user is not None:
        return False
    if isinstance(place.where, Postgres):
        return isinstance(other.where, Postgres) and other.where.uri == place.where.uri
    is_own = place.name.isidentifier() and other.name.isidentifier()
    return is_own and isinstance(place.where, Sqlite) and isinstance(other.where, Sqlite)
