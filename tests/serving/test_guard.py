"""Pages of other origins cannot post rows; curl, devices and pages of our own can."""

from __future__ import annotations

import pytest

from penstock.serving.guard import page_refusal, refusal


def asked(address: str = "127.0.0.1:8080", scheme: str = "http", **headers: str) -> str | None:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return refusal({"type": "http", "method": "POST", "scheme": scheme, "headers": pairs}, address)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "127.0.0.1:8080", "content_type": "application/x-www-form-urlencoded"},
        {"host": "localhost:8080"},
        {"host": "[::1]:8080"},
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080", "sec_fetch_site": "same-origin"},
    ],
)
def test_programs_and_pages_of_our_own_may_post(headers: dict[str, str]) -> None:
    assert asked(**headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8080"},
        {"origin": ""},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_pages_of_other_origins_may_not(headers: dict[str, str]) -> None:
    assert asked(host="127.0.0.1:8080", **headers) == "pages of other origins may not post here"


@pytest.mark.parametrize(
    "host", ["evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.1", "["]
)
def test_a_foreign_name_for_this_machine_may_not(host: str) -> None:
    assert "this host is not served here" in (asked(host=host, origin=f"http://{host}") or "")
    assert asked(host=host) is not None
    assert asked(address=":8080", host=host) is not None


def test_elsewhere_than_on_loopback_any_name_may_be_ours() -> None:
    assert asked(address="0.0.0.0:8080", host="penstock.example", origin="http://penstock.example") is None
    assert asked(address="0.0.0.0:8080", host="penstock.example", origin="http://evil.example") is not None


def changing(address: str = "127.0.0.1:8080", *, proxied: bool = False, **headers: str) -> str | None:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "scheme": "http", "headers": pairs}
    return page_refusal(scope, address, ["https://app.example"], is_proxied=proxied)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "penstock.example"},  # a phone, through a proxy on this machine
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"},
        {"host": "127.0.0.1:8080", "origin": "https://penstock.example", "sec_fetch_site": "same-origin"},
        {"host": "penstock.example", "origin": "https://penstock.example", "sec_fetch_site": "same-origin"},
        {"host": "127.0.0.1:8080", "origin": "https://app.example", "sec_fetch_site": "cross-site"},
    ],
)
def test_who_has_a_key_may_change_things_through_proxies_too(headers: dict[str, str]) -> None:
    assert changing(**headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:8080", "origin": "https://evil.example"},
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:9999"},
        {"host": "127.0.0.1:8080", "origin": "null"},
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080", "sec_fetch_site": "cross-site"},
        {"host": "127.0.0.1:8080", "origin": "https://evil.example", "sec_fetch_site": "same-site"},
        {"host": "evil.example:8080", "origin": "http://evil.example:8080"},  # a name pointed at this machine
    ],
)
def test_a_page_of_another_origin_may_not_even_with_a_key(headers: dict[str, str]) -> None:
    assert changing(**headers) is not None


def test_behind_a_trusted_proxy_host_and_scheme_may_be_its_own() -> None:
    assert changing(host="backend", origin="https://penstock.example", proxied=True) is None
    assert changing(address="0.0.0.0:8080", host="penstock.example", origin="http://penstock.example") is None
