"""Adding rows to files of lines or frames."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...clock import Clock
from ...delivery import Batch, Position
from ...metadata import without_metadata
from . import formats, tails
from .formats import Format
from .growing import Growing, Unit
from .local import LocalWriter
from .paths import last_number, numbered
from .payloads import encoded, ordered, refuse_line_breaks

if TYPE_CHECKING:
    from . import File

OPEN_FILES = 256
"""How many files are kept open."""


class GrowingWriter(LocalWriter):
    """Adds rows to files of lines or frames; rows are there for readers when a write returns."""

    def __init__(self, config: File, log: logging.Logger, clock: Clock) -> None:
        super().__init__(config, log, clock)
        self._files: OrderedDict[str, tuple[int, Growing]] = OrderedDict()
        self._retired: list[Growing] = []
        self._tail = tails.find(self.format is Format.CSV, self.compression.value, config.framing)

    def put(self, batches: Sequence[Batch], positions: Mapping[str, Position] | None) -> None:
        for batch in batches:
            refuse_line_breaks(self.config, batch)
        unit = Unit()
        try:
            for path, rows in self.split(batches):
                self._plan(unit, path, rows)
            if positions is not None:
                fresh = {path: size for path, size in unit.sizes.items() if self.journal.files.get(path) != size}
                if fresh:
                    self.journal.commit(files=fresh)
            unit.add(sync=self.config.sync)
            if positions is not None:
                growing = {file.path for _, file in self._files.values()}
                gone = [path for path in {**self.journal.files, **unit.sizes} if path not in growing]
                self.journal.commit(positions, unit.sizes, gone)
        except BaseException:
            unit.undo()
            raise
        finally:
            unit.end(keep=positions is not None)
            self._close_retired()

    def close(self) -> None:
        super().close()
        with self._lock:
            for _, file in self._files.values():
                file.close()
            self._files.clear()

    def _close_retired(self) -> None:
        while len(self._files) > OPEN_FILES:
            self._retired.append(self._files.popitem(last=False)[1][1])
        recorded = [file.path for file in self._retired if file.path in self.journal.files]
        if recorded:
            self.journal.commit(complete=recorded)
        for file in self._retired:
            file.close()
        self._retired.clear()

    def _plan(self, unit: Unit, path: str, rows: Batch) -> None:
        file = self._current(unit, path)
        if self.format is not Format.CSV:
            unit.plan(file, formats.packed(encoded(self.config, rows), self.compression), rows.num_rows, None)
            return
        rows = without_metadata(rows)
        unit.hold(file)
        if file.header is not None and not set(rows.schema.names) <= set(file.header):
            file = self._next(path)
            unit.hold(file)
        header = file.header or rows.schema.names
        data = formats.csv(ordered(rows, header), header=file.header is None)
        unit.plan(file, formats.packed(data, self.compression), rows.num_rows, header)

    def _current(self, unit: Unit, path: str) -> Growing:
        if path not in self._files:
            self.begin(path)
            number = max(last_number(path, self.ending), 1)
            file = self._grow(path, number)
            if self.config.rotate is None:
                return file
            unit.hold(file)
            return file if file.size == 0 or self._continues(file) else self._next(path)
        self._files.move_to_end(path)
        file = self._files[path][1]
        rotate = self.config.rotate
        if (
            rotate is not None
            and unit.planned_bytes(file)
            and rotate.is_due(file.rows, unit.planned_bytes(file), self.clock.monotonic() - file.began)
        ):
            return self._next(path)
        return file

    def _continues(self, file: Growing) -> bool:
        """Whether a file of an earlier run is gone on with: only its length is known."""
        rotate = self.config.rotate
        assert rotate is not None
        return rotate.rows is None and rotate.every is None and not rotate.is_due(0, file.size, 0)

    def _next(self, path: str) -> Growing:
        return self._grow(path, max(last_number(path, self.ending), self._files[path][0]) + 1)

    def _grow(self, path: str, number: int) -> Growing:
        name = numbered(path, self.ending, number)
        began = self.clock.monotonic()
        file = Growing(name, self.format, self.compression, self._tail, self.log, began)
        if path in self._files:
            self._retired.append(self._files[path][1])
        self._files[path] = (number, file)
        return file
