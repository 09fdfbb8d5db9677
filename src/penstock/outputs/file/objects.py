"""Writing objects into a store: each whole from the moment it is there."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from ...clients.object_store import translated
from ...clock import Clock
from ...delivery import Batch
from ...errors import PenstockError
from . import formats
from .formats import GROWING, Format
from .parts import gathered
from .paths import Template
from .payloads import encoded, refuse_line_breaks

if TYPE_CHECKING:
    from obstore.store import ObjectStore

    from . import File


class ObjectWriter:
    """Puts one object for each path in a write, under a name that no other write uses."""

    def __init__(self, config: File, store: ObjectStore, path: str, clock: Clock) -> None:
        self._config, self._store, self._clock = config, store, clock
        self._format, self._compression, self._ending = config.resolved()
        self._template = Template(path)
        self._failed: Sequence[Batch] = ()
        self._objects: dict[str, pa.Buffer] = {}
        self._put: list[str] = []

    async def write(self, batches: Sequence[Batch]) -> None:
        import obstore

        batches = [batch for batch in batches if batch.num_rows]
        if not batches:
            return
        if not _same(batches, self._failed):
            await self._withdraw()
            self._objects = await asyncio.to_thread(self._encode, batches)
        # A call that comes again after it failed uses the same names, so that nothing is there twice.
        self._failed = batches
        for name, data in self._objects.items():
            if name not in self._put:
                with translated(f"putting {name}"):
                    await obstore.put_async(self._store, name, memoryview(data).cast("B"))
                self._put.append(name)
        self._failed, self._objects, self._put = (), {}, []

    async def _withdraw(self) -> None:
        """Remove what a failed call had put before it was given up: its rows come again in other calls."""
        import obstore

        for name in self._put:
            with translated(f"deleting {name}"):
                await obstore.delete_async(self._store, name)
        self._failed, self._objects, self._put = (), {}, []

    async def close(self) -> None:
        """Remove what a failed call left."""
        with contextlib.suppress(PenstockError):
            await self._withdraw()

    def _encode(self, batches: Sequence[Batch]) -> dict[str, pa.Buffer]:
        now = datetime.fromtimestamp(self._clock.time(), UTC)
        for batch in batches:
            refuse_line_breaks(self._config, batch)
        parts = [part for batch in batches for part in self._template.split(batch, now)]
        if self._format in GROWING - {Format.CSV}:
            framed: dict[str, list[pa.Buffer]] = {}
            for path, batch in parts:
                framed.setdefault(path, []).append(encoded(self._config, batch))
            files = [(path, pa.py_buffer(b"".join(data))) for path, data in framed.items()]
            files = [(path, formats.packed(data, self._compression)) for path, data in files]
        elif self._format is Format.CSV:
            files = [(path, formats.packed(self._csv(table), self._compression)) for path, table in gathered(parts)]
        else:
            files = [(path, formats.encode(t, self._format, self._compression)) for path, t in gathered(parts)]
        return {self._name(path, now): data for path, data in files}

    def _csv(self, table: pa.Table) -> pa.Buffer:
        batch = table.combine_chunks().to_batches()[0]
        return formats.csv(batch, header=True)

    def _name(self, path: str, now: datetime) -> str:
        stem = path[: len(path) - len(self._ending)].lstrip("/")
        return f"{stem}-{now:%Y%m%dT%H%M%S.%fZ}-{uuid.uuid4().hex[:12]}{self._ending}"


def _same(batches: Sequence[Batch], others: Sequence[Batch]) -> bool:
    return len(batches) == len(others) and all(one is other for one, other in zip(batches, others, strict=True))
