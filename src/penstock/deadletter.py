"""What the error output receives: refused rows with their reason, stage, original payload and metadata."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from .delivery import Batch, Delivery
from .metadata import PREFIX, SCHEMA, VALUE, attach

LONGEST_REASON = 2000
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
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    for refusal in refusals:
        original = _as_read(delivery, refusal)
        fixed = {"time": now, "stream": stream, "stage": refusal.stage, "reason": refusal.reason[:LONGEST_REASON]}
        for row in original.to_pylist():
            rows.append({**fixed, **_payload(row), "metadata": _metadata(row, delivery)})
    return pa.RecordBatch.from_pylist(rows, schema=DEAD_LETTERS)


def _as_read(delivery: Delivery, refusal: Refusal) -> Batch:
    if refusal.first is None:
        return refusal.rows
    return attach(delivery.batch, delivery.origin).slice(refusal.first, refusal.rows.num_rows)


def _payload(row: dict[str, Any]) -> dict[str, str | None]:
    if VALUE not in row:
        plain = {name: value for name, value in row.items() if not name.startswith(PREFIX)}
        return {"payload": json.dumps(plain, default=_as_text, ensure_ascii=False), "encoding": "utf-8"}
    value = row[VALUE]
    if value is None:
        return {"payload": None, "encoding": "utf-8"}
    data = value.encode() if isinstance(value, str) else bytes(value)
    try:
        return {"payload": data.decode().rstrip("\r\n"), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"payload": base64.b64encode(data).decode(), "encoding": "base64"}


def _metadata(row: dict[str, Any], delivery: Delivery) -> str:
    found = {name: row[name] for name in SCHEMA.names if row.get(name) is not None}
    if not found and delivery.origin is not None:
        # The rows can no longer be told apart; what holds for the whole delivery still does.
        found = {"__meta_source": delivery.origin.source, "__meta_partition": delivery.origin.partition}
        if isinstance(delivery.origin.ext, dict):
            found["__meta_ext"] = list(delivery.origin.ext.items())
    if "__meta_ext" in found:
        found["__meta_ext"] = dict(found["__meta_ext"])
    plain = {name.removeprefix(PREFIX): value for name, value in found.items()}
    return json.dumps(plain, default=_as_text, ensure_ascii=False)


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return str(value)
