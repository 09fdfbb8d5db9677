"""Describe the streams of this process: how they are, where they are, and what they promise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import PermanentError
from ..redaction import redact
from ..runtime.branches import find_leaves
from ..stream import Stream, regroups
from .stages import Stage, stages

if TYPE_CHECKING:
    from ..supervision import SupervisedStream

MAX_POSITION_SIZE = 2000
"""Characters of a position that are shown."""


class StreamRates(msgspec.Struct, frozen=True):
    """Rows a second, over the last seconds."""

    rows_in: float
    rows_out: float
    rows_refused: float


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream is."""

    id: str
    application: str
    """The application that brings it along; empty for a stream of the configuration."""
    state: str
    """``created``, ``starting``, ``running``, ``restarting``, ``paused``, ``finished``, ``stopped`` or ``failed``."""
    is_well: bool
    trouble: str | None
    note: str | None
    rows_in: int
    rows_out: int
    rows_refused: int
    restarts: int
    rates: StreamRates
    lag: int | None
    """What is left to read, in the unit of the input, or in the log; null where that is not known."""
    in_flight: int
    """Deliveries that are read and not yet settled."""
    max_in_flight: int
    log_bytes: int | None
    """Bytes in the write-ahead log; null without one."""
    latency: float | None
    """Seconds from the read of a delivery to its ack, of the last ones; null before the first."""


class PartitionPosition(msgspec.Struct, frozen=True, kw_only=True):
    """Where reading is in one partition of an input."""

    partition: str
    read: Any
    """Behind what was last read."""
    settled: Any
    """Below it everything is settled."""
    durable: Any
    """What is saved of that: after a crash, reading resumes there or later."""
    rows: int
    """Rows read, across restarts."""
    replays: bool
    """Whether it can be read again from another position."""


class StreamSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stream is written down."""

    file: str
    line: int | None
    application: str


class StreamDetail(StreamState, frozen=True, kw_only=True):
    """All that is known of a stream."""

    guarantees: list[str]
    stages: list[Stage]
    """What it is made of, in the order in which rows pass."""
    positions: list[PartitionPosition]
    progress: dict[str, Any] | None
    """How far the input says it is."""
    configuration: dict[str, Any]
    """Its options, without secrets."""
    source: StreamSource


def describe(supervised: SupervisedStream) -> StreamState:
    """Return how a stream is."""
    return StreamState(**_state(supervised))


def detail(supervised: SupervisedStream) -> StreamDetail:
    """Return all that is known of a stream."""
    stream, flow = supervised.stream, supervised.flow
    progress = flow.progress if flow is not None else None
    return StreamDetail(
        **_state(supervised),
        guarantees=list(guarantees(stream)),
        stages=list(stages(stream)),
        positions=_positions(supervised),
        progress={"done": progress.done, "total": progress.total, "unit": progress.unit} if progress else None,
        configuration=configuration(stream),
        source=StreamSource(**stream.source._asdict()),
    )


def states(supervised: Sequence[SupervisedStream]) -> dict[str, bytes]:
    """Return how streams are as JSON, by their ids."""
    return {one.stream.id: msgspec.json.encode(describe(one)) for one in supervised}


def guarantees(stream: Stream) -> Sequence[str]:
    """Say in words what a stream promises."""
    said = ["Rows are written in the order in which they are read, and acknowledged once the output has them."]
    if stream.durability is not None and stream.durability.enabled:
        said.append("What is accepted is on disk, in the write-ahead log, before its sender is told so.")
    if stream.checkpoint == "output":
        said.append("Positions are saved in the transaction of the rows: each row is written once, also after a crash.")
    else:
        said.append("Positions are saved behind the rows: after a crash the last rows may be written a second time.")
    if stream.error_output is not None:
        said.append("A row that cannot be decoded, processed or written goes to the error output, with its reason.")
    elif stream.input.tells_sender():
        said.append("A row that cannot be decoded, processed or written is refused to its sender, with the reason.")
    else:
        said.append("A row that cannot be decoded, processed or written stops the stream: nothing is dropped.")
    if has_groups(stream):
        said.append("Rows are held and grouped on their way; what is held is read again after a crash.")
    return said


def has_groups(stream: Stream) -> bool:
    """Tell whether a stream holds rows back, or groups them, on their way."""
    return stream.buffer is not None or any(regroups(one) is not None for one in stream.pipeline.processors)


def configuration(stream: Stream) -> dict[str, Any]:
    """Return the options of a stream, without secrets."""
    dumped = json.loads(json.dumps(stream.model_dump(mode="json", exclude_unset=True, fallback=str), default=str))
    found: dict[str, Any] = redact(dumped)
    return found


def _state(supervised: SupervisedStream) -> dict[str, Any]:
    status, metrics, stream = supervised.status(), supervised.metrics, supervised.stream
    return {
        "id": stream.id,
        "application": stream.source.application,
        "state": status.state,
        "is_well": status.is_well,
        "trouble": status.trouble,
        "note": status.note,
        "rows_in": status.rows_in,
        "rows_out": status.rows_out,
        "rows_refused": status.rows_refused,
        "restarts": status.restarts,
        "rates": StreamRates(*metrics.rates()),
        "lag": metrics.left,
        "in_flight": metrics.unsettled,
        "max_in_flight": stream.max_in_flight,
        "log_bytes": metrics.wal_size,
        "latency": None if metrics.latency is None else float(f"{metrics.latency:.3g}"),
    }


def _positions(supervised: SupervisedStream) -> list[PartitionPosition]:
    found = supervised.flow.positions() if supervised.flow is not None else {}
    replays = supervised.flow.replays() if supervised.flow is not None else {}
    return [
        PartitionPosition(
            partition=_partition(supervised.stream, key),
            read=_shorten(one.position),
            settled=_shorten(one.committed),
            durable=_shorten(one.durable),
            rows=one.rows,
            replays=key in replays,
        )
        for key, one in found.items()
    ]


def _partition(stream: Stream, key: str) -> str:
    return key.removeprefix(f"{stream.id}{stream.identity}").removeprefix("/")


def positions_of(supervised: SupervisedStream, asked: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the positions to read again from, by keys; all from the beginning if none are given.

    Raises PermanentError for a partition that is not there, or that cannot be read again, and for another kind of
    position than it has.
    """
    replays = supervised.flow.replays() if supervised.flow is not None else {}
    known = {_partition(supervised.stream, key): (key, one.position) for key, one in replays.items()}
    if not known:
        raise PermanentError("nothing of what this stream has read can be read again: its input does not replay")
    found = {}
    for partition, position in (dict.fromkeys(known) if asked is None else asked).items():
        if partition not in known:
            raise PermanentError(f"there is no partition {partition[:100]!r} that can be read again")
        key, now = known[partition]
        if position is not None and not _is_alike(position, now):
            raise PermanentError(f"expected a position such as {json.dumps(_shorten(now))}, or null for the beginning")
        found[key] = position
    return found


def _is_alike(position: Any, other: Any) -> bool:
    if isinstance(position, dict) and isinstance(other, dict):
        return position.keys() == other.keys() and all(_is_alike(position[name], other[name]) for name in other)
    return type(position) is type(other)


def rewinding(supervised: SupervisedStream) -> Sequence[str]:
    """Say in words what reading again does to what a stream writes."""
    said, stream = [], supervised.stream
    for leaf in find_leaves(stream.output):
        key = getattr(leaf.output, "key", None) or getattr(leaf.output, "upsert_keys", None)
        where = f"In {leaf.name} ({leaf.output.type_name})"
        if isinstance(key, list) and key:
            said.append(f"{where} a row takes the place of the one with the same {', '.join(key)}: nothing is doubled.")
        else:
            said.append(f"{where} the rows are written a second time, beside those that are there.")
    if supervised.flow is not None and supervised.flow.keeps_state:
        said.append("What the stream remembers by key, or holds in groups, is not forgotten.")
    if stream.error_output is not None:
        said.append("Rows that were refused are refused again, unless what was wrong has been mended.")
    return said


def _shorten(position: Any) -> Any:
    """Return a position, or the beginning of its text where that is long."""
    text = json.dumps(position, default=str)
    return redact(json.loads(text)) if len(text) <= MAX_POSITION_SIZE else f"{text[:MAX_POSITION_SIZE]}..."
