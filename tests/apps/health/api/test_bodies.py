from __future__ import annotations

import pytest

from penstock.apps.health.api import bodies
from penstock.apps.health.settings import Settings
from penstock.platform.web.errors import ApiError

SETTINGS = Settings(wait_bytes=100, wait="5s")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("application/json", "export"),
        ("", "export"),
        ("TEXT/CSV; charset=utf-8", "csv"),
        ("application/csv", "csv"),
        ("multipart/form-data; boundary=x", "multipart"),
        ("application/x-www-form-urlencoded", "export"),
        (";;;", "export"),
    ],
)
def test_the_form_of_a_body(content_type: str, form: str) -> None:
    assert bodies.form_of(content_type) == form


@pytest.mark.parametrize(
    ("value", "name"), [("", ""), ("identity", ""), (" GZip ", "gzip"), ("x-gzip", "gzip"), ("br", "br")]
)
def test_codings_that_can_be_read(value: str, name: str) -> None:
    assert bodies.encoding_of(value) == name


@pytest.mark.parametrize("value", ["compress", "gzip, br", "gzip\x00", "x" * 10_000])
def test_codings_that_cannot_be_read(value: str) -> None:
    with pytest.raises(ApiError) as refused:
        bodies.encoding_of(value)
    assert refused.value.status == 415
    assert len(refused.value.message) < 500
    assert "\x00" not in refused.value.message


def test_headers_are_kept_bounded_and_without_control_characters() -> None:
    told = bodies.run_of({"session-id": "a\x00b\r\n" + "c" * 1000, "automation-id": "", "cookie": "secret"})
    assert told == {"session-id": "ab" + "c" * 254}


@pytest.mark.parametrize(
    ("preferences", "size", "seconds"),
    [
        ("", 100, 5.0),
        ("", 101, 0.0),
        ("respond-async", 1, 0.0),
        ("handling=lenient; respond-async", 1, 0.0),
        ("not-respond-async", 1, 5.0),
        ("wait=10", 101, 10.0),
        ("respond-async, wait=10", 1, 0.0),
        ("wait=9999", 1, bodies.MAX_WAIT),
        ("wait=x", 1, 5.0),
    ],
)
def test_how_long_an_answer_waits(preferences: str, size: int, seconds: float) -> None:
    assert bodies.wait_of(preferences, size, SETTINGS) == seconds
