"""Answer questions about tables in threads, a few at once, each with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec

from ...application import Installation
from ...clients.database import space
from ...errors import PenstockError
from ...outputs.sql import Sql
from ...runtime.threads import Threads
from ...stream import Stream
from ..access.caller import Caller
from ..access.scopes import Scopes
from .files import Format, write
from .places import Place, outputs_of, places_of
from .questions import Filter, Question, TableShown
from .reader import Reader

T = TypeVar("T")

THREADS = 4
"""How many questions are answered at once."""
QUESTION_TIMEOUT = 10.0
DOWNLOAD_TIMEOUT = 600.0
SIZES_TIMEOUT = 3.0
"""After how many seconds a list of tables goes on without their sizes."""


class Entry(msgspec.Struct):
    """A table in the list of all."""

    place: str
    name: str
    kind: str
    columns: int
    rows: int | None
    is_exact: bool
    bytes: int | None
    writers: list[str]


class PlaceShown(msgspec.Struct):
    """A database, and whether it answers."""

    name: str
    engine: str
    bytes: int | None
    trouble: str | None = None
    is_queried: bool = True
    """Whether SQL may be run there: it sees the rows of all."""


class Listing(msgspec.Struct):
    """What there is."""

    places: list[PlaceShown]
    tables: list[Entry]


@dataclass(frozen=True)
class Tables:
    """The tables of an installation, as each caller may see them."""

    installation: Installation
    scopes: Scopes
    streams: Callable[[], Sequence[Stream]]
    timeout: float = QUESTION_TIMEOUT

    @cached_property
    def _threads(self) -> Threads:
        return Threads(THREADS, "tables")

    async def places(self, caller: Caller) -> Mapping[str, Place]:
        """Return the places that a caller may look into; raises PenstockError."""
        return await self._threads.run(places_of, self.installation, self.streams(), self.scopes, caller)

    async def list_all(self, caller: Caller) -> Listing:
        """Return all tables that a caller may see; a place that does not answer is named with the reason."""
        places = await self.places(caller)
        found = await asyncio.gather(*(self._threads.run(self._list, place) for place in places.values()))
        return Listing([shown for shown, _ in found], [table for _, tables in found for table in tables])

    async def names(self, caller: Caller) -> list[tuple[str, str]]:
        """Return the places and names of the tables that a caller may see; a place that does not answer has none."""
        places = await self.places(caller)
        found = await asyncio.gather(*(self._threads.run(self._names, place) for place in places.values()))
        return [(place, table) for place, tables in zip(places, found, strict=True) for table in tables]

    def _names(self, place: Place) -> list[str]:
        try:
            with place.open(SIZES_TIMEOUT) as reader:
                return [one.name for one in place.tables(reader)]
        except (PenstockError, OSError):
            return []

    def _list(self, place: Place) -> tuple[PlaceShown, list[Entry]]:
        file = place.file
        shown = PlaceShown(place.name, place.engine, None, is_queried=place.user is None)
        if file is not None and not file.exists():
            return shown, []  # Nothing was stored yet.
        try:
            shown.bytes = _bytes_of(file) if file is not None else None
            with place.open(self.timeout) as reader:
                return shown, list(self._entries(place, reader))
        except (PenstockError, OSError) as error:
            shown.trouble = str(error)
            return shown, []

    def _entries(self, place: Place, reader: Reader) -> Iterator[Entry]:
        end = time.monotonic() + SIZES_TIMEOUT
        outputs = self._outputs(place)
        for one in place.tables(reader):
            columns, rows, is_exact, bytes = reader.columns(one.name), None, False, None
            if place.user is None and one.kind == "table" and time.monotonic() < end:
                rows, is_exact, bytes = reader.size(one.name)
            writers = _writers(outputs, one.name)
            yield Entry(place.name, one.name, one.kind, len(columns), rows, is_exact, bytes, writers)

    async def ask(
        self,
        place: Place,
        table: str,
        answer: Callable[[Question], T],
        *,
        filters: Sequence[Filter] = (),
        search: str = "",
    ) -> T:
        """Return what ``answer`` makes of a table; raises LookupError if there is none, and PenstockError."""

        def run() -> T:
            with place.open(self.timeout) as reader:
                return answer(Question(place, table, reader, filters, search))

        return await self._threads.run(run)

    def describe(self, question: Question) -> TableShown:
        """Return how large a table is, its columns, and who writes it."""
        kinds = {one.name: one.kind for one in question.reader.tables()}
        shown = question.describe(kinds.get(question.table, "table"))
        shown.writers = self.writers(question.place, question.table)
        return shown

    def download(
        self, place: Place, table: str, format: Format, filters: Sequence[Filter], search: str
    ) -> Iterator[bytes]:
        """Yield a file of the rows of a table, as they are read; raises LookupError and PenstockError."""
        with place.open(DOWNLOAD_TIMEOUT) as reader:
            question = Question(place, table, reader, filters, search)
            columns = ", ".join(reader.quote(column.name) for column in question.columns)
            statement = reader.select(columns, table, question.where())
            rows = reader.stream(statement, question.values)
            yield from write(format, [column.name for column in question.columns], rows)

    def writers(self, place: Place, table: str) -> list[str]:
        """Return the streams that write into a table, as far as their options name it."""
        return _writers(self._outputs(place), table)

    def _outputs(self, place: Place) -> list[tuple[str, Sql]]:
        """Return the outputs that write into a place, each with the id of its stream."""
        return [(stream.id, one) for stream in self.streams() for one in outputs_of(stream) if _is_of(one, place)]

    def close(self) -> None:
        """End the threads."""
        if "_threads" in self.__dict__:
            self._threads.shutdown()


def _bytes_of(file: Path) -> int:
    """Return the size of a database with what waits in its write-ahead log."""
    log = file.with_name(f"{file.name}-wal")
    return file.stat().st_size + (log.stat().st_size if log.exists() else 0)


def _writers(outputs: Iterable[tuple[str, Sql]], table: str) -> list[str]:
    return sorted({id for id, output in outputs if _writes(output, table)})


def _is_of(output: Sql, place: Place) -> bool:
    schema = (output.table_name.constant or "").rpartition(".")[0] or output.schema_name or ""
    return space(output.database(), schema) == space(place.where, place.schema)


def _writes(output: Sql, table: str) -> bool:
    if output.table_name.constant:
        return output.table_name.constant.rpartition(".")[2] == table
    return not (table.startswith("_") or table in output.reserved_names)
