"""Send lines and find out which of them the server refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa

from ...clients.http import failures, meaning, read_at_most
from ...clock import Clock
from ...delivery import Batch
from ...errors import PermanentError, RowsRejected, TransientError
from ...metadata import without_metadata
from .lines import FieldColumn, lines, times

if TYPE_CHECKING:
    import aiohttp

    from . import Influxdb

_ANSWER_BYTES = 4096
_PATHS = {1: "/write", 2: "/api/v2/write", 3: "/api/v3/write_lp"}
_OF_ROWS = (400, 413, 422)
"""What is said of points: that they cannot be read, or have another type than those that are there."""


class _Line(NamedTuple):
    """A point and its row, by its index in the write."""

    row: int
    text: str

    @property
    def point(self) -> str:
        """The point without its time."""
        return self.text.rpartition(" ")[0]


class InfluxdbWriter:
    """A server that is written."""

    def __init__(self, config: Influxdb, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._config, self._session, self._clock = config, session, clock
        self._url = f"{config.url.rstrip('/')}{_PATHS[config.version]}"
        self._query = urlencode({name: value for name, value in _parameters(config).items() if value})
        self._batches: Sequence[Batch] = ()
        self._began = 0
        self._kept: list[str] = []
        """What was written of a write of which other rows were refused: the next is without those."""
        self._secrets = tuple(
            secret.get_secret_value() for secret in (config.token, config.password) if secret is not None
        )

    async def write(self, batches: Sequence[Batch]) -> None:
        """Write all points; returns once the server has confirmed them."""
        if not self._is_repeated(batches):  # a repeated point has the time that it had
            self._batches, self._began = list(batches), int(self._clock.time() * 1e9)
        found = await asyncio.to_thread(lambda: list(self._lines(batches)))
        kept, self._kept = self._kept, []
        if kept and kept == [line.point for line in found]:
            self._batches = ()
            return
        refused: dict[int, str] = {}
        size = self._config.batch_size
        for start in range(0, len(found), size):
            await self._send(found[start : start + size], refused)
        self._batches = ()
        if refused:
            self._kept = [line.point for line in found if line.row not in refused]
            raise RowsRejected(refused, across=True)

    def _is_repeated(self, batches: Sequence[Batch]) -> bool:
        same = len(batches) == len(self._batches)
        return same and bool(batches) and all(one is other for one, other in zip(batches, self._batches, strict=True))

    def _lines(self, batches: Sequence[Batch]) -> Iterator[_Line]:
        """Return a line for each row; raises RowsRejected for those that have no form."""
        refused: dict[int, str] = {}
        found: list[_Line] = []
        start = 0
        for batch in batches:
            own: dict[int, str] = {}
            if batch.num_rows:
                texts = self._of(batch, start, own).to_pylist()
                found += [_Line(start + at, text) for at, text in enumerate(texts) if at not in own]
            refused |= {start + at: reason for at, reason in own.items()}
            start += batch.num_rows
        if refused:
            raise RowsRejected(refused, across=True)
        yield from found

    def _of(self, batch: Batch, start: int, refused: dict[int, str]) -> pa.StringArray:
        config = self._config
        content = without_metadata(batch)
        if config.timestamp_field is None:
            moments = pa.array(self._began + start + np.arange(batch.num_rows), pa.int64())
        elif config.timestamp_field in content.schema.names:
            moments = times(content.column(config.timestamp_field), refused)
        else:
            raise PermanentError(f"there is no column {config.timestamp_field!r} with the time")
        tags = config.tag_columns()
        fields = config.field_columns() or [
            FieldColumn(name, name, None)
            for name in content.schema.names
            if name != config.timestamp_field and name not in {tag.column for tag in tags}
        ]
        measurements = config.measurement.evaluate(batch)
        return lines(batch, measurements, fields, tags, moments, refused, has_unsigned=config.version > 1)

    async def _send(self, some: Sequence[_Line], refused: dict[int, str]) -> None:
        """Send points, and where the server refuses any, parts of them, down to the one that it is."""
        waiting = [list(some)]
        while waiting:
            part = waiting.pop()
            error = await self._post("\n".join(line.text for line in part).encode())
            if error is None:
                continue
            if len(part) == 1:
                refused[part[0].row] = str(error)
                continue
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]

    async def _post(self, body: bytes) -> PermanentError | None:
        """Send once; return why points are refused, and raise what has nothing to do with them."""
        with failures(self._url):
            async with self._session.post(f"{self._url}?{self._query}", data=body, allow_redirects=False) as response:
                answer = await read_at_most(response, _ANSWER_BYTES)
        if response.status in (200, 204):
            return None
        error = meaning(response.status, self._url, response.headers, answer, self._secrets)
        if isinstance(error, PermanentError) and response.status in _OF_ROWS:
            return error
        # A token, a bucket or a database may be made; the points are not at fault.
        raise error if not isinstance(error, PermanentError) else TransientError(str(error))


def _parameters(config: Influxdb) -> dict[str, str | None]:
    if config.version == 2:
        return {"org": config.org, "bucket": config.bucket, "precision": "ns"}
    if config.version == 3:
        return {"db": config.database, "precision": "nanosecond", "accept_partial": "false"}
    return {"db": config.database, "rp": config.retention_policy, "precision": "ns"}
