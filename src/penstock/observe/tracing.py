"""Traces of what happens to each delivery, sent by OpenTelemetry; nothing at all unless it is asked for."""

from __future__ import annotations

import time
from typing import Any

from ..errors import ConfigError

active: Traces | None = None
"""Where spans go; None when nobody asked for traces, which is all that is then looked at."""


class Traces:
    """Makes the spans of deliveries: ``read``, and under it ``process`` and ``write``."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace

        self._provider, self._trace = provider, trace
        self._tracer = provider.get_tracer("penstock")

    def read(self, stream: str, started: float, rows: int) -> Any:
        """Record the read of a delivery since ``started`` (perf_counter); returns what its later spans belong to."""
        span = self._span("read", stream, started, None, rows=rows)
        return self._trace.set_span_in_context(span)

    def span(self, name: str, stream: str, started: float, parent: Any, error: object = None, **counts: int) -> None:
        """Record a step that lasted from ``started`` until now."""
        self._span(name, stream, started, parent, error, **counts)

    def _span(self, name: str, stream: str, started: float, parent: Any, error: object = None, **counts: int) -> Any:
        now, passed = time.time_ns(), time.perf_counter() - started
        span = self._tracer.start_span(
            f"penstock.{name}",
            context=parent,
            start_time=now - int(passed * 1e9),
            attributes={"penstock.stream": stream, **{f"penstock.{key}": value for key, value in counts.items()}},
        )
        if error is not None:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, str(error)))
        span.end(now)
        return span

    def close(self) -> None:
        """Send what is not sent yet."""
        self._provider.shutdown()


def begin(endpoint: str, service_name: str) -> None:
    """Send spans to an OTLP/HTTP ``endpoint`` from now on; raises ConfigError if the extra is not installed."""
    global active
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as missing:
        raise ConfigError(
            f"tracing needs {missing.name}, which is not installed: pip install 'penstock[tracing]'", path="tracing"
        ) from missing
    provider = TracerProvider(resource=Resource.create({"service.name": service_name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    active = Traces(provider)


def end() -> None:
    """Send what is left, and record no more."""
    global active
    if active is not None:
        traces, active = active, None
        traces.close()
