"""Answers are compressed as the client prefers it."""

from __future__ import annotations

import pytest

from penstock.platform.web.compression import choose


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("GZIP;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("*", "zstd"),
        ("*;q=0, gzip", "gzip"),
        ("zstd;q=x, gzip;q=0.1", "gzip"),
        (",;q=,gzip ; q=0.3", "gzip"),
    ],
)
def test_the_encoding_that_is_preferred_is_taken(accepted: str, chosen: str | None) -> None:
    assert choose(accepted) == chosen
