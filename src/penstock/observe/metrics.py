"""Prometheus metrics of streams; labels are the stream and closed sets, so their number is bounded."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple
from weakref import WeakSet

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector

from ..clock import Clock
from .condition import STALL_TIMEOUT, Condition

registry = CollectorRegistry()
"""The metrics of this process."""

_live: WeakSet[StreamMetrics] = WeakSet()


class _Publisher(Collector):
    """Has the streams publish what they have counted, before anything else is collected."""

    def collect(self) -> Iterator[Metric]:
        for metrics in list(_live):
            metrics.publish()
        return iter(())


registry.register(_Publisher())

_STREAM = ("stream",)
_rows_in = Counter("penstock_rows_in", "Rows read by the input.", _STREAM, registry=registry)
_rows_out = Counter("penstock_rows_out", "Rows written by the output.", _STREAM, registry=registry)
_batches_in = Counter("penstock_batches_in", "Batches read by the input.", _STREAM, registry=registry)
_batches_out = Counter("penstock_batches_out", "Batches written by the output.", _STREAM, registry=registry)
_errors = Counter(
    "penstock_errors", "Rows refused, or deliveries nacked, by stage.", ("stream", "kind"), registry=registry
)
_retries = Counter("penstock_retries", "Writes that were tried again.", _STREAM, registry=registry)
_reconnects = Counter("penstock_reconnects", "Times an input was opened again.", _STREAM, registry=registry)
_restarts = Counter(
    "penstock_restarts", "Times the stream was started again after a failure.", _STREAM, registry=registry
)
_gaps = Counter(
    "penstock_gaps", "Times that rows of the source may be missing, as the log tells.", _STREAM, registry=registry
)
_in_flight = Gauge("penstock_in_flight", "Deliveries read and not yet settled.", _STREAM, registry=registry)
_lag = Gauge(
    "penstock_lag", "What is left to read, in the unit of the input, where it knows.", _STREAM, registry=registry
)
_wal_bytes = Gauge("penstock_wal_bytes", "Bytes held by the write-ahead log.", _STREAM, registry=registry)
_up = Gauge(
    "penstock_stream_up", "Whether the stream is running and nothing is in its way.", _STREAM, registry=registry
)
_latency = Histogram(
    "penstock_latency_seconds",
    "From the read of a delivery to its ack.",
    _STREAM,
    registry=registry,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)


RATE_WINDOW = 10
"""Over how many looks, about a second apart, a rate is taken."""


LATENCY_WEIGHT = 16
"""Of about how many deliveries the latency is that is shown."""


class Rates(NamedTuple):
    """Rows a second, lately."""

    rows_in: float = 0.0
    rows_out: float = 0.0
    rows_refused: float = 0.0


class StreamMetrics:
    """What one stream counts.

    What every delivery counts is kept in plain numbers until somebody asks: the counters of the library take a lock
    for each.
    """

    def __init__(self, stream: str, stall_timeout: float = STALL_TIMEOUT, clock: Clock | None = None) -> None:
        self.stream, self._clock = stream, clock or Clock()
        counters = (_rows_in, _rows_out, _batches_in, _batches_out)
        self._counters = [counter.labels(stream) for counter in counters]
        self._published = (0, 0, 0, 0)
        self._retries, self._reconnects = _retries.labels(stream), _reconnects.labels(stream)
        self._restarts, self._in_flight = _restarts.labels(stream), _in_flight.labels(stream)
        self._lag, self._wal_bytes, self._up = _lag.labels(stream), _wal_bytes.labels(stream), _up.labels(stream)
        self._latency, self._gaps = _latency.labels(stream), _gaps.labels(stream)
        self.rows_in = self.rows_out = self.batches_in = self.batches_out = self.refused = 0
        self.left: int | None = None
        """What is left to read, in the unit of the input; None where that is not known."""
        self.left_in: Mapping[str, int] = {}
        """What is left to read in each partition."""
        self.count_unsettled: Callable[[], int] = int
        """Count the deliveries that are read and not yet settled."""
        self._in_flight.set_function(lambda: self.unsettled)
        self.wal_size: int | None = None
        """Bytes held by the write-ahead log; None without one."""
        self.latency: float | None = None
        """Seconds from the read of a delivery to its ack, of the last ones; None before the first."""
        self._samples: deque[tuple[float, int, int, int]] = deque(maxlen=RATE_WINDOW + 1)
        self._is_running = False
        self.condition = Condition(stream, self._show, stall_timeout, self._clock)
        _live.add(self)

    @property
    def unsettled(self) -> int:
        """How many deliveries are read and not yet settled."""
        return self.count_unsettled()

    def publish(self) -> None:
        """Add to the counters what was counted since this was called last."""
        counts = (self.rows_in, self.rows_out, self.batches_in, self.batches_out)
        for counter, count, published in zip(self._counters, counts, self._published, strict=True):
            counter.inc(count - published)
        self._published = counts

    def read(self, rows: int) -> None:
        """Count a delivery that was read."""
        self.rows_in += rows
        self.batches_in += 1

    def written(self, batches: int, rows: int, read_at: float) -> None:
        """Count a delivery that was written or filtered, and acked; ``read_at`` is when it was read (perf_counter)."""
        if rows:
            self.rows_out += rows
            if self.condition.refusals.end_run():
                self._show()
        self.batches_out += batches
        if read_at:
            seconds = time.perf_counter() - read_at
            self._latency.observe(seconds)
            self.latency = seconds if self.latency is None else self.latency + (seconds - self.latency) / LATENCY_WEIGHT

    def refuse(self, stage: str, rows: int, reason: str) -> None:
        """Count rows that were refused at a stage."""
        self.refused += rows
        _errors.labels(self.stream, stage).inc(rows)
        self.condition.refusals.add(stage, rows, reason)
        self._show()

    def nack(self) -> None:
        """Count a delivery that was nacked."""
        _errors.labels(self.stream, "nacked").inc()

    def retrying(self, part: str, reason: str) -> None:
        """Note that ``part`` failed and will be tried again."""
        self._retries.inc()
        self.condition.report(part, reason)

    def reconnecting(self, part: str, reason: str) -> None:
        """Note that an input was lost and will be opened again."""
        self._reconnects.inc()
        self.condition.report(part, reason)

    def recovered(self, part: str) -> None:
        """Note that ``part`` works again."""
        self.condition.clear(part)

    def gap(self, reason: str) -> None:
        """Note that rows of the source may be missing."""
        self._gaps.inc()
        self.condition.report_gap(reason)

    def up(self) -> None:
        """Note that the stream runs, and nothing is in its way."""
        self._is_running = True
        self.condition.clear_all()

    def damaged(self, reason: str | None) -> None:
        """Note what is missing from the write-ahead log; None once nothing is."""
        if reason is None:
            self.condition.clear("damage")
        else:
            self.condition.report("damage", reason)

    def down(self) -> None:
        """Note that the stream has stopped or failed."""
        self._is_running = False
        self.publish()
        self._show()

    def _show(self) -> None:
        self._up.set(self._is_running and self.condition.trouble is None)

    def restarting(self) -> None:
        """Note that the stream failed and is started again in a moment: until it is open it is down."""
        self._restarts.inc()
        self._is_running = False
        self._show()

    def lag(self, left: int, partitions: Mapping[str, int] | None = None) -> None:
        """Note how much there is left to read, and in which partition, where the source has them."""
        self.left, self.left_in = left, dict(partitions or {})
        self._lag.set(left)

    def wal(self, size: int) -> None:
        """Note how many bytes the write-ahead log holds."""
        self.wal_size = size
        self._wal_bytes.set(size)

    def sample(self) -> None:
        """Note how many rows there were by now; to be called about once a second."""
        self._samples.append((self._clock.monotonic(), self.rows_in, self.rows_out, self.refused))

    def rates(self) -> Rates:
        """Return the rates between the oldest look and now."""
        if not self._samples or not self._is_running:
            return Rates()
        began, *before = self._samples[0]
        seconds = max(1.0, self._clock.monotonic() - began)
        counts = (self.rows_in, self.rows_out, self.refused)
        return Rates(*(round((now - then) / seconds, 2) for now, then in zip(counts, before, strict=True)))


def exposition() -> bytes:
    """Return all metrics in the Prometheus text format."""
    return generate_latest(registry)
