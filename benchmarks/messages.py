"""Messages of Protobuf with ten fields into columns, beside the parser alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .case import Case, Sample, measured, rate

_MESSAGES = 200_000
_BATCH = 8192
PROTO = """
syntax = "proto3";
message Reading {
  string sensor = 1; string site = 2; int64 at = 3; double celsius = 4; float humidity = 5; int32 battery = 6;
  bool charging = 7; uint64 sequence = 8; string firmware = 9; optional double pressure = 10;
}
"""


def _payloads() -> tuple[Any, list[Any]]:
    import pyarrow as pa

    from penstock.codecs.protobuf import Protobuf

    codec = Protobuf(proto=PROTO, message_type="Reading")
    numbers = range(_BATCH)
    rows = pa.record_batch(
        {
            "sensor": [f"sensor-{n % 100:03}" for n in numbers],
            "site": [f"site {n % 7}" for n in numbers],
            "at": [1_767_225_600_000 + n for n in numbers],
            "celsius": [20 + n / 1000 for n in numbers],
            "humidity": [0.5] * _BATCH,
            "battery": [n % 100 for n in numbers],
            "charging": [n % 2 == 0 for n in numbers],
            "sequence": pa.array(numbers, pa.uint64()),
            "firmware": ["2.4.1"] * _BATCH,
            "pressure": [n / 10 if n % 3 else None for n in numbers],
        }
    )
    return codec, [codec.encode(rows)] * (_MESSAGES // _BATCH)


def _measure(work: Callable[[Any, Any], object]) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        codec, batches = _payloads()
        work(codec, batches[0])
        with measured() as span:
            for payloads in batches:
                work(codec, payloads)
        return rate(len(batches) * _BATCH, span)

    return measure


def _decode(codec: Any, payloads: Any) -> object:
    return codec.decode(payloads)


def _parse(codec: Any, payloads: Any) -> object:
    parse = codec._message.make.FromString
    return [parse(payload) for payload in payloads.to_pylist()]


CASES = [
    Case(
        "protobuf-decode",
        "messages",
        "Protobuf messages of 10 fields into columns, 8192 a batch",
        "messages/s",
        _measure(_decode),
        reach=700_000,
    ),
    Case(
        "protobuf-parse", "messages", "the parser alone, nothing read", "messages/s", _measure(_parse), role="ceiling"
    ),
]
