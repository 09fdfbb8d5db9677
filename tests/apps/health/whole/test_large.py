"""Bodies of any size that is allowed are answered at once, and stored in memory that does not grow with them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from .service import Phone, Service

_POINT = b'{"date":"2026-02-%02d %02d:%02d:%02d +0100","qty":1,"note":"' + b"x" * 950 + b'"}'


def _body(points: int) -> bytes:
    """Of a kilobyte a point, one for each second."""
    data = b",".join(_POINT % (1 + n // 86400, n // 3600 % 24, n // 60 % 60, n % 60) for n in range(points))
    return b'{"data":{"metrics":[{"name":"step_count","units":"count","data":[' + data + b"]}]}}"


def _peak(service: Service) -> float:
    """The most memory that the process had, in MB."""
    assert service.process is not None
    for line in Path(f"/proc/{service.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("/proc tells no peak")


def _stored(phone: Phone, points: int) -> None:
    body, began = _body(points), time.monotonic()
    answer = phone.call("POST", "/api/v1/ingest", body)
    took = time.monotonic() - began
    assert answer.status == 202
    assert took < 60  # half a second on a quiet machine; to store them takes longer
    told = phone.outcome(answer.json["id"], seconds=120)
    assert (told["received"], told["stored"] + told["unchanged"]) == (points, points)


@pytest.mark.timeout(300)
def test_200_mb_take_little_more_memory_than_40(tmp_path: Path) -> None:
    service = Service(tmp_path)
    try:
        phone = service.start().phone()
        _stored(phone, 40_000)
        before = _peak(service)
        _stored(phone, 190_000)
        assert _peak(service) - before < 75
    finally:
        service.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_body_of_100_000_lists_takes_no_more_memory_than_is_promised(tmp_path: Path) -> None:
    lists = b",".join(b'"k%06d":[{}]' % number for number in range(100_000))
    service = Service(tmp_path)
    try:
        phone = service.start().phone()
        answer = phone.call("POST", "/api/v1/ingest", b'{"data":{' + lists + b"}}")
        told = phone.outcome(answer.json["id"], seconds=500)
        assert (told["received"], told["quarantined"]) == (100_000, 100_000)
        assert _peak(service) < 300
    finally:
        service.close()
