"""Spans of each delivery reach an OTLP receiver; without tracing there are none."""

from __future__ import annotations

import asyncio
import builtins
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import PrivateAttr

from penstock import ConfigError, Processor, Stream, run_sync
from penstock.delivery import Batch
from penstock.errors import TransientError
from penstock.observe import tracing


class Receiver(ThreadingHTTPServer):
    """Keeps the spans that are posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def spans(self) -> list[Any]:
        return [s for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    tracing.end()
    server.shutdown()
    thread.join()
    server.server_close()


def _stream(count: int = 6, **options: Any) -> Stream:
    return Stream.model_validate(
        {
            "id": "traced",
            "input": {"type": "generate", "context": {"n": 1}, "count": count, "batch_size": 2, "interval": "1ms"}
            | {"codec": "json"},
            "pipeline": {"processors": [{"type": "sql", "query": "SELECT n / 0 AS n FROM flow"}] if count > 6 else []},
            "output": "drop",
            "error_output": "drop",
        }
        | options
    )


def test_each_delivery_has_a_trace_of_read_process_and_write(receiver: Receiver) -> None:
    tracing.begin(receiver.url, "me")
    run_sync(_stream())
    tracing.end()
    assert {
        r.resource.attributes[i].value.string_value
        for q in receiver.requests
        for r in q.resource_spans
        for i in range(len(r.resource.attributes))
        if r.resource.attributes[i].key == "service.name"
    } == {"me"}
    by_name: dict[str, list[Any]] = {}
    for span in receiver.spans():
        by_name.setdefault(span.name, []).append(span)
    assert {name: len(spans) for name, spans in by_name.items()} == {
        "penstock.read": 3,
        "penstock.process": 3,
        "penstock.write": 3,
    }
    reads = {span.span_id: span for span in by_name["penstock.read"]}
    for name in ("penstock.process", "penstock.write"):
        assert {span.parent_span_id for span in by_name[name]} == set(reads)
        for span in by_name[name]:
            assert span.trace_id == reads[span.parent_span_id].trace_id
            found = {a.key: a.value for a in span.attributes}
            assert found["penstock.stream"].string_value == "traced"
            assert found["penstock.rows"].int_value == 2
            assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano


def test_refused_rows_are_counted_in_the_span(receiver: Receiver) -> None:
    tracing.begin(receiver.url, "me")
    run_sync(_stream(8))
    tracing.end()
    processed = [span for span in receiver.spans() if span.name == "penstock.process"]
    assert [{a.key: a.value.int_value for a in span.attributes}["penstock.refused"] for span in processed] == [2] * 4


class FailingOnce(Processor, type="test_failing_once"):
    """Fail for a moment at the first batch."""

    _calls: list[int] = PrivateAttr(default_factory=list)

    def process(self, batch: Batch) -> list[Batch]:
        self._calls.append(batch.num_rows)
        if len(self._calls) == 1:
            raise TransientError("away for a moment")
        return [batch]


def test_a_delivery_that_was_retried_has_one_span(receiver: Receiver) -> None:
    tracing.begin(receiver.url, "me")
    run_sync(_stream(pipeline={"processors": ["test_failing_once"]}, retry={"initial": "1ms", "maximum": "1ms"}))
    tracing.end()
    processed = [span for span in receiver.spans() if span.name == "penstock.process"]
    assert [span.status.message for span in processed] == [""] * 3


def test_tracing_starts_no_task_for_a_delivery(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    create_task = asyncio.TaskGroup.create_task

    def create(group: asyncio.TaskGroup, task: Any, **options: Any) -> asyncio.Task[Any]:
        started.append(task)
        return create_task(group, task, **options)

    monkeypatch.setattr(asyncio.TaskGroup, "create_task", create)
    run_sync(_stream())
    untraced = len(started)
    tracing.begin(receiver.url, "me")
    run_sync(_stream())
    tracing.end()
    assert len(started) == 2 * untraced


def test_without_tracing_there_are_no_spans(receiver: Receiver) -> None:
    assert tracing.active is None
    run_sync(_stream())
    tracing.end()
    assert receiver.requests == []


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry.exporter"):
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"penstock\[tracing\]"):
        tracing.begin("http://127.0.0.1:1", "me")
    assert tracing.active is None
