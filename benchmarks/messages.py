"""Messages of Protobuf into columns, and a program of VRL, beside the libraries alone."""

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


VRL = """
.event = parse_json!(.payload)
.name = .sensor
.fahrenheit = to_float!(.celsius) * 1.8 + 32
del(.sensor)
del(.payload)
"""


def _rows(folder: Path) -> tuple[Any, Any, list[Any]]:
    import msgspec
    import pyarrow as pa

    from penstock.processors.vrl import Vrl

    event = [
        {"sensor": f"s{n % 9}", "celsius": n / 4, "payload": '{"site": "roof", "battery": 98}'} for n in range(1000)
    ]
    vrl = Vrl(statement=VRL)
    return vrl, pa.RecordBatch.from_pylist(event), [msgspec.to_builtins(one) for one in event]


def _vrl(folder: Path) -> Sample:
    from penstock.component import Codec

    vrl, batch, _ = _rows(folder)
    decoder = Codec.find("json")().decoder()  # one that has learned the columns, as within a stream
    with measured() as span:
        for _ in range(100):
            vrl._remapped(batch, decoder)
    return rate(100_000, span)


def _vrl_alone(folder: Path) -> Sample:
    vrl, _, events = _rows(folder)
    run = vrl._program.run
    with measured() as span:
        for _ in range(100):
            for event in events:
                run(event)
    return rate(100_000, span)


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
    Case(
        "vrl",
        "vrl",
        "VRL: parse JSON, rename, compute, drop a field, 1000 rows a batch",
        "rows/s",
        _vrl,
        reach=150_000,
    ),
    Case("vrl-alone", "vrl", "its library alone", "rows/s", _vrl_alone, role="ceiling"),
]
