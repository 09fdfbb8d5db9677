"""Describe what a configuration will do: stages, columns, guarantees and bounds of each stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..component import Component
from ..config.configuration import load
from ..platform.stages import stages
from ..platform.streams import guarantees
from ..runtime.branches import find_leaves
from ..stream import Stream, regroups


def plan(file: Path) -> Iterator[str]:
    """Yield lines that describe the streams of a file; raises ConfigError with a line for each fault."""
    for at, stream in enumerate(load(file).all_streams()):
        if at:
            yield ""
        yield f"stream {stream.id}"
        lines = list(_lines(stream))
        width = max(len(name) for name, _ in lines)
        for name, text in lines:
            yield f"  {name.ljust(width)}  {text}"


def plan_as_json(file: Path) -> str:
    """Return the streams of a file as JSON, of the stages that the console draws; raises ConfigError as ``plan``."""
    found = {"streams": [_describe(stream) for stream in load(file).all_streams()]}
    return json.dumps(found, indent=2, ensure_ascii=False)


def _describe(stream: Stream) -> dict[str, Any]:
    return {
        "id": stream.id,
        "stages": [msgspec.to_builtins(stage) for stage in stages(stream)],
        "guarantees": list(guarantees(stream)),
        "bounds": {
            "max_in_flight": stream.max_in_flight,
            "thread_num": stream.pipeline.thread_num,
            "shutdown_timeout": stream.shutdown_timeout,
        },
    }


def _lines(stream: Stream) -> Iterator[tuple[str, str]]:
    codec = stream.input.payload_codec()
    decoded = f", decoded as {codec.type_name}" if codec is not None else ""
    yield "input", f"{_called(stream.input)}{decoded}; {_columns(stream.columns_read())}"
    if stream.durability is not None and stream.durability.enabled:
        yield "log", f"kept in a write-ahead log ({stream.durability.sync}) before it is acked"
    if stream.buffer is not None:
        yield "buffer", f"{_called(stream.buffer)}; holds {_describe_bound(stream.buffer.most_held())}"
    for temporary in stream.temporary:
        ttl = f"; remembered for {temporary.cache_ttl:g} s" if temporary.cache_ttl is not None else ""
        yield "temporary", f"{_called(temporary)}{ttl}"
    for index, processor in enumerate(stream.pipeline.processors):
        regrouping = regroups(processor)
        if regrouping is not None:
            yield (
                f"{index}",
                f"{_called(processor)}: regroups; holds {_describe_bound(regrouping.most_held())}",
            )
            continue
        by = "row by row: a bad row is refused alone" if processor.row_wise() else "by the batch: refused as a whole"
        looks_up = f"; looks up in {', '.join(processor.looks_up())}" if processor.looks_up() else ""
        yield f"{index}", f"{_called(processor)}; {by}; {_columns(processor.columns_read())}{looks_up}"
    leaves = find_leaves(stream.output)
    for leaf in leaves:
        condition = f"; rows where {' and '.join(' '.join(label.split()) for label in leaf.labels)}"
        yield leaf.name, f"{_called(leaf.output)}{condition if leaf.labels else ''}"
    if stream.error_output is None:
        yield "errors", "none: a refused row stops the stream, unless a sender is told of it"
    else:
        yield "errors", f"{_called(stream.error_output)}: refused rows with their reason"
    exactly = f"exactly once in {leaves[-1].name}, where the input replays"
    others = ", at least once in the others" if len(leaves) > 1 else ""
    yield "guarantee", f"each row {exactly}{others}" if stream.checkpoint == "output" else "each row at least once"
    yield (
        "bounds",
        (
            f"{stream.max_in_flight} deliveries in flight, {stream.pipeline.thread_num} processed at once, "
            f"a stop takes {stream.shutdown_timeout:g} s at most"
        ),
    )


def _called(component: Component) -> str:
    return component.type_name + (f" ({component.name})" if component.name else "")


def _columns(columns: frozenset[str] | None) -> str:
    if columns is None:
        return "all columns are read"
    return f"reads at most {', '.join(sorted(columns))}" if columns else "reads no column"


def _describe_bound(most: int | None) -> str:
    return "as many deliveries as come" if most is None else f"{most} deliveries at most"
