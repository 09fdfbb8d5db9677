"""Streams and the process as JSON, in the shapes that tools of other engines expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..supervision import SupervisedStream
from .operations import Operation

_STATES = {"finished": "stopped", "paused": "stopped"}
"""States that these tools do not know, and what they call them."""
MAX_PAGE_SIZE = 100
"""Resources on one page of a list."""


def stream_state(one: SupervisedStream) -> str:
    """Return the state of a stream: created, starting, running, stopping, stopped, failed or restarting."""
    return "stopping" if one.is_halting else _STATES.get(one.state, one.state)


def stream_status(one: SupervisedStream, operation: Operation | None) -> dict[str, Any]:
    """Describe a stream."""
    status, metrics = one.status(), one.metrics
    began = int(one.began_at * 1000) if one.began_at is not None else None
    error = {"occurred_at_ms": began, "stage": "stream", "message": status.trouble} if status.trouble else None
    return {
        "id": status.id,
        "state": stream_state(one),
        "active_operation_id": operation.id if operation is not None else None,
        "started_at_ms": began,
        "last_error": error,
        "metrics": {
            "input_batches": metrics.batches_in,
            "input_messages": status.rows_in,
            "processing_errors": status.rows_refused,
            "output_batches": metrics.batches_out,
            "output_messages": status.rows_out,
            "restarts": status.restarts,
        },
        "trouble": status.trouble,
        "note": status.note,
        "is_well": status.is_well,
        "rows_in": status.rows_in,
        "rows_out": status.rows_out,
        "rows_refused": status.rows_refused,
        "restarts": status.restarts,
        "lag": dict(status.lag),
    }


def process_status(streams: Sequence[SupervisedStream], version: str, uptime: float) -> dict[str, Any]:
    """Describe the process in figures."""
    return {
        "version": version,
        "state": "running",
        "uptime_seconds": int(uptime),
        "streams_total": len(streams),
        "streams_running": sum(one.state == "running" for one in streams),
        "streams_failed": sum(one.state == "failed" for one in streams),
    }


def node(id: str, streams: Sequence[SupervisedStream], version: str, uptime: float) -> dict[str, Any]:
    """Describe the process as the one node that there is."""
    capabilities = ["stream_runtime", "local_configuration"]
    shown = process_status(streams, version, uptime)
    return {"id": id, "role": "standalone", "capabilities": capabilities, "maintenance_state": "active", **shown}


def system(streams: Sequence[SupervisedStream], version: str, open_operations: int) -> dict[str, Any]:
    """Describe the installation."""
    return {
        "id": "penstock",
        "version": version,
        "state": "running",
        "node_count": 1,
        "stream_count": len(streams),
        "active_operations": open_operations,
        "capabilities": ["single_node", "stream_lifecycle", "configuration_versioning", "component_catalogue"],
    }


def page(items: Sequence[Any], parameters: dict[str, str]) -> dict[str, Any]:
    """Return one page of a list; raises ValueError for a page that is not a number."""
    number = max(1, int(parameters.get("page", "1")))
    size = min(max(1, int(parameters.get("page_size", "50"))), MAX_PAGE_SIZE)
    start = (number - 1) * size
    return {"items": list(items[start : start + size]), "page": number, "page_size": size, "total": len(items)}
