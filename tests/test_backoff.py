"""Backoff: delays that grow to a ceiling, attempts that end, pauses that a stop cuts short."""

from __future__ import annotations

import pytest

from penstock.backoff import Backoff


@pytest.mark.parametrize("attempt", [0, 1, 5, 9, 60, 10_000])
def test_delays_double_up_to_the_maximum(attempt: int) -> None:
    backoff = Backoff.model_validate({"initial": "100ms", "maximum": "30s"})
    longest = min(0.1 * 2 ** min(attempt, 60), 30.0)
    for _ in range(100):
        assert longest / 2 <= backoff.delay(attempt) <= longest


def test_attempts_end() -> None:
    backoff = Backoff(attempts=3)
    assert [backoff.exhausted(attempt) for attempt in range(4)] == [False, False, True, True]
    assert not Backoff().exhausted(1_000_000)


def test_what_the_other_side_asks_for_is_waited_for_up_to_the_maximum() -> None:
    backoff = Backoff.model_validate({"initial": "100ms", "maximum": "30s"})
    assert backoff.delay(0, after=7.0) == 7.0
    assert backoff.delay(0, after=3600.0) == 30.0
    assert 0.05 <= backoff.delay(0, after=0.0) <= 0.1
