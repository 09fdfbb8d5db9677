"""What a stream is made of, in the order in which rows pass: its picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from ..clients.database import redact_url
from ..component import Component
from ..runtime.branches import find_leaves
from ..stream import Stream, regroups

MAX_TEXT_SIZE = 300
"""Characters of an option that are shown."""
_WHERE = ("path", "paths", "url", "address", "table_name", "topic", "topics", "subject", "channel", "key", "collection")
"""Options that say where a component reads or writes."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a stream."""

    kind: str
    """``input``, ``log``, ``buffer``, ``processor``, ``temporary``, ``output`` or ``error_output``."""
    name: str
    """How logs and metrics call it."""
    type: str
    """Its type in the configuration."""
    says: str
    """What it does, in a few words."""
    where: dict[str, str]
    """From where it reads, or to where it writes, by option, without secrets."""
    columns: list[str] | None = None
    """The columns that it reads at most, of an input and a processor; null where that is all of them, or not known."""


def stages(stream: Stream) -> Iterator[Stage]:
    """Yield the parts of a stream."""
    inputs = stream.input.children()
    for name, one in inputs.items() if inputs else [("input", stream.input)]:
        codec = one.payload_codec()
        says = f"decoded as {codec.type_name}" if codec is not None else ""
        yield _stage("input", one.name or name, one, says, stream.columns_read())
    if stream.durability is not None and stream.durability.enabled:
        sync = str(stream.durability.sync).replace("_", " ")
        yield Stage(
            kind="log", name="log", type="write-ahead log", says=f"on disk before it is acked ({sync})", where={}
        )
    if stream.buffer is not None:
        yield _stage("buffer", "buffer", stream.buffer, _bound(stream.buffer.most_held()))
    for table in stream.temporary:
        yield _stage("temporary", table.name, table, "rows that queries look up")
    for index, processor in enumerate(stream.pipeline.processors):
        buffer = regroups(processor)
        if buffer is not None:
            says = f"regroups; {_bound(buffer.most_held())}"
        else:
            says = "refuses a bad row alone" if processor.row_wise() else "refuses a batch as a whole"
        columns = processor.columns_read() if buffer is None else None
        yield _stage("processor", processor.name or f"{index + 1}", processor, says, columns)
    for leaf in find_leaves(stream.output):
        says = f"rows where {' and '.join(' '.join(label.split()) for label in leaf.labels)}" if leaf.labels else ""
        yield _stage("output", leaf.name, leaf.output, says)
    if stream.error_output is not None:
        yield _stage("error_output", "error_output", stream.error_output, "refused rows, with their reason")


def _stage(kind: str, name: str, component: Component, says: str, columns: frozenset[str] | None = None) -> Stage:
    return Stage(
        kind=kind,
        name=name,
        type=component.type_name,
        says=says[:MAX_TEXT_SIZE],
        where={} if kind in ("buffer", "processor") else where(component),
        columns=None if columns is None else sorted(columns),
    )


def where(component: Component) -> dict[str, str]:
    """Return from where a component reads, or to where it writes, by option, without secrets."""
    found = {}
    for name in _WHERE:
        value = getattr(component, name, None)
        if value:
            found[name] = _URL.sub(lambda url: redact_url(url[0]), _text(value))[:MAX_TEXT_SIZE]
    return found


def _text(value: Any) -> str:
    if hasattr(value, "get_secret_value"):
        return str(value.get_secret_value())
    if hasattr(value, "constant"):
        return str(value.constant or getattr(value, "sql", "computed for each row"))
    if isinstance(value, list | tuple):
        return ", ".join(_text(one) for one in value)
    return str(value)


def _bound(most: int | None) -> str:
    return "holds as many deliveries as come" if most is None else f"holds {most} deliveries at most"
