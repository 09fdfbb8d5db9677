"""The fifteen columns of a lake of conversations, and how a line becomes rows of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa

from ..lines import Kind
from ..reading.thread import blocks_of, decode, text_of
from ..transcripts.adapter import translate

_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema([
    pa.field("_id", pa.string(), nullable=False), ("type", pa.string()), ("session_id", pa.string()),
    ("project_id", pa.string()), ("timestamp", _TIME), ("ingested_at", _TIME), ("extracted_at", _TIME),
    ("message_role", pa.string()), ("message_content", pa.string()), ("message_raw", pa.string()),
    ("source_file", pa.string()), ("date", pa.date32()), ("tool_name", pa.string()), ("tool_id", pa.string()),
    ("tool_use_id", pa.string()),
])  # fmt: skip
_ROLES = {Kind.PROMPT: "user", Kind.ANSWER: "assistant", Kind.RESULT: "user"}


def explode(row: Any, extracted_at: datetime) -> Iterator[dict[str, Any]]:
    """Yield the rows of a line: its texts together, and each call and each result of a tool by itself."""
    found = translate(decode(row.line))
    common = {
        "type": _text(found.get("type")) or "unknown",
        "session_id": row.session,
        "project_id": row.project,
        "timestamp": row.at,
        "ingested_at": row.read_at,
        "extracted_at": extracted_at,
        "message_role": _ROLES.get(row.kind, "program"),
        "source_file": row.path,
        "date": row.at.date(),
    }
    for number, part in enumerate(_parts(found)):
        yield {"_id": str(row.id) if number == 0 else f"{row.id}_{number}", **common, **part}


def _parts(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    blocks = blocks_of(found)
    parts: list[dict[str, Any]] = []
    texts = [text for block in blocks if block.get("type") == "text" and (text := _text(block.get("text")))]
    if not texts and (content := _text(found.get("content"))):
        texts = [content]
    if texts:
        parts.append({"message_content": "\n".join(texts)})
    for block in blocks:
        raw = {"message_raw": msgspec.json.encode(block).decode()}
        if block.get("type") in ("tool_use", "server_tool_use"):
            given = msgspec.json.encode(block.get("input")).decode()
            named = {"tool_name": _text(block.get("name")) or "unknown", "tool_id": _text(block.get("id"))}
            parts.append({"type": "tool_use", "message_role": "assistant", "message_content": given} | raw | named)
        elif block.get("type") == "tool_result":
            named = {"tool_use_id": _text(block.get("tool_use_id")), "message_content": text_of(block.get("content"))}
            parts.append({"type": "tool_result", "message_role": "user"} | raw | named)
    return parts or [{}]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
