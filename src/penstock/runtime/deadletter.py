"""What the error output receives: refused rows with their reason, stage, original payload and metadata."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from ..absence import without
from ..component import Codec
from ..delivery import Batch, Delivery
from ..errors import PermanentError
from ..metadata import ABSENT, PREFIX, SCHEMA, VALUE, Origin, attach, without_metadata

MAX_REASON_LENGTH = 2000
"""Characters of a reason that are kept."""

DEAD_LETTERS = pa.schema(
    [
        pa.field("time", pa.timestamp("us", "UTC")),
        pa.field("stream", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("payload", pa.string()),
        pa.field("encoding", pa.string()),
        pa.field("metadata", pa.string()),
    ]
)
"""The columns of a dead letter. ``encoding`` says how ``payload`` is written: ``utf-8`` or ``base64``."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Rows that can never be processed or written."""

    rows: Batch
    """The rows as they reached the stage that refused them."""
    stage: str
    """Where: ``decode``, a processor or the output."""
    reason: str
    """Why, for a person to read."""
    first: int | None = None
    """The index of the first of these rows in the delivery as it was read, if it is known."""


def dead_letters(stream: str, delivery: Delivery, refusals: Sequence[Refusal]) -> Batch:
    """Return one row for each refused row, as they were read where that is known."""
    now = time.time_ns() // 1000
    rows: list[dict[str, Any]] = []
    for refusal, original in zip(refusals, _originals(delivery, refusals), strict=True):
        fixed = {
            "time": now,
            "stream": stream,
            "stage": refusal.stage,
            "reason": _valid(refusal.reason[:MAX_REASON_LENGTH]),
        }
        for payload, metadata in original:
            rows.append({**fixed, **_readable(payload), "metadata": metadata})
    # Column by column, since times made of Python's would have the zone looked up on disk.
    return pa.RecordBatch.from_arrays(
        [
            pa.array([row[field.name] for row in rows], pa.int64()).cast(field.type)
            if field.name == "time"
            else pa.array([row[field.name] for row in rows], field.type)
            for field in DEAD_LETTERS
        ],
        schema=DEAD_LETTERS,
    )


def _valid(text: str) -> str:
    """Return a text that can be written in UTF-8, whatever it quotes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _originals(delivery: Delivery, refusals: Sequence[Refusal]) -> Iterator[list[tuple[bytes | None, str]]]:
    """Payload and metadata of each row of each refusal: of those that are known as they were read, all at once."""
    known = [
        row
        for refusal in refusals
        if refusal.first is not None
        for row in range(refusal.first, refusal.first + refusal.rows.num_rows)
    ]
    as_read = attach(delivery.batch, delivery.origin).take(pa.array(known, pa.int64())) if known else None
    told = iter(_pairs(as_read, delivery.origin) if as_read is not None else [])
    for refusal in refusals:
        if refusal.first is None:
            yield _pairs(refusal.rows, delivery.origin)
        else:
            yield list(islice(told, refusal.rows.num_rows))


def _pairs(rows: Batch, origin: Origin | None) -> list[tuple[bytes | None, str]]:
    return list(zip(_payloads(rows), _metadata(rows, origin), strict=True))


def _payloads(rows: Batch) -> list[bytes | None]:
    """The rows as they were read, or as JSON once they are columns."""
    if VALUE in rows.schema.names:
        found: list[bytes | None] = rows.column(VALUE).cast(pa.binary()).to_pylist()
        return found
    # With its nulls, told from what a row lacked: a dead letter that is sent again says the same.
    return _as_json(without_metadata(rows, keep_absent=True), nulls=True)


def _readable(payload: bytes | None) -> dict[str, str | None]:
    if payload is None:
        return {"payload": None, "encoding": "utf-8"}
    try:
        return {"payload": payload.decode().rstrip("\r\n"), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"payload": base64.b64encode(payload).decode(), "encoding": "base64"}


def _metadata(rows: Batch, origin: Origin | None) -> list[str]:
    names = [name for name in rows.schema.names if name.startswith(PREFIX) and name != ABSENT]
    if not names and origin is not None:
        # The rows can no longer be told apart; what holds for the whole delivery still does.
        rows = attach(
            rows, Origin(origin.source, origin.partition, ext=_common(origin), ingest_time=origin.ingest_time)
        )
        names = SCHEMA.names
    plain = rows.select(names).rename_columns([name.removeprefix(PREFIX) for name in names])
    return [(text or b"{}").decode() for text in _as_json(plain)]


def _common(origin: Origin) -> Mapping[str, str]:
    return origin.ext if isinstance(origin.ext, Mapping) else {}


def _as_json(rows: Batch, *, nulls: bool = False) -> list[bytes | None]:
    codec = Codec.find("json").model_validate({"nulls": nulls})
    if not without(rows).num_columns:
        return [b"{}"] * rows.num_rows
    try:
        encoded: list[bytes | None] = codec.encode(rows).to_pylist()
    except PermanentError:
        # What was refused may be refused by JSON too, and yet the dead letter has to be written.
        encoded = [_described(codec, without(rows.slice(row, 1))) for row in range(rows.num_rows)]
    return encoded


def _described(codec: Codec, row: Batch) -> bytes:
    """Return a row as JSON, with the values that JSON cannot express as Arrow prints them."""
    fields = []
    for number, (name, column) in enumerate(zip(row.schema.names, row.columns, strict=True)):
        try:
            fields.append(codec.encode(pa.RecordBatch.from_arrays([column], [name]))[0].as_py())
        except PermanentError:
            printed = pa.array([column.to_string(indent=0, skip_new_lines=True)])
            fields.append(codec.encode(pa.RecordBatch.from_arrays([printed], [name or str(number)]))[0].as_py())
    return b"{" + b",".join(field[1:-1] for field in fields if field != b"{}") + b"}"
