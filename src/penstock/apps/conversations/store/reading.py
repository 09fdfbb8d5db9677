"""Take batches of lines apart: which file each is from, its place in it, and what is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec
import pyarrow as pa

from ....delivery import Batch
from ....metadata import EXT, VALUE
from ..lines import Line, NoLine, parse

DIGEST_SIZE = 16
"""Bytes of the digest by which a line is known again."""


class Row(msgspec.Struct, frozen=True):
    """A line, and where it was found."""

    path: str
    row: int
    read_at: datetime
    digest: bytes
    bytes: bytes
    line: Line


def read_rows(batches: Sequence[Batch]) -> tuple[list[Row], dict[int, str]]:
    """Return the lines of all batches, in order, and the reason of each row that is none, by its number over all."""
    rows: list[Row] = []
    refused: dict[int, str] = {}
    for number, (content, place) in enumerate(_cells(batches)):
        path, row, read_at = place
        if not content or content.isspace():
            continue
        try:
            line = parse(content)
        except NoLine as error:
            refused[number] = f"{path}, line {row + 1}: {error}"
            continue
        digest = blake2b(content, digest_size=DIGEST_SIZE).digest()
        rows.append(Row(path, row, read_at, digest, content, line))
    return rows, refused


def _cells(batches: Sequence[Batch]) -> Iterator[tuple[bytes, tuple[str, int, datetime]]]:
    for batch in batches:
        contents = batch.column(VALUE).cast(pa.binary()).to_pylist()
        told = _read_ext(batch)
        offsets = batch.column("__meta_offset").to_pylist()
        times = batch.column("__meta_ingest_time").cast(pa.int64()).to_pylist()
        for content, ext, offset, time in zip(contents, told, offsets, times, strict=True):
            read_at = datetime.fromtimestamp((time or 0) // 1000 / 1e6, UTC)
            yield content or b"", (ext.get("path", ""), offset or 0, read_at)


def _read_ext(batch: Batch) -> Iterator[dict[str, str]]:
    """Yield what the input told of each row: few files, many rows."""
    known: dict[Any, dict[str, str]] = {}
    for pairs in batch.column(EXT).to_pylist():
        key = tuple(pairs or ())
        if key not in known:
            known[key] = dict(key)
        yield known[key]
