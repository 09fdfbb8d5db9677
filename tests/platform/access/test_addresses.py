from __future__ import annotations

from ipaddress import ip_network

import pytest

from penstock.platform.access.addresses import UNKNOWN, client, group

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # nobody whom we trust wrote this
        ("10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),  # what the client itself wrote is not believed
        ("10.1.1.1", ["1.2.3.4, 198.51.100.1, 10.2.2.2"], "198.51.100.1"),
        ("10.1.1.1", ["1.2.3.4", "198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["10.3.3.3"], "10.3.3.3"),
        ("10.1.1.1", ["2001:db8::7"], "2001:db8::7"),
        ("fd00::1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("10.1.1.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("::ffff:10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["garbage"], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1, garbage"], "10.1.1.1"),
        ("10.1.1.1", [""], "10.1.1.1"),
        ("10.1.1.1", [",,,"], "10.1.1.1"),
        ("10.1.1.1", ["9" * 100_000], "10.1.1.1"),
        ("10.1.1.1", ["10.0.0.1," * 100_000], "10.1.1.1"),
        ("fe80::1%eth0", [], "fe80::1"),
        (None, ["198.51.100.1"], UNKNOWN),
        ("/run/socket", [], UNKNOWN),
    ],
)
def test_the_client_is_the_right_most_hop_that_is_no_trusted_proxy(peer, forwarded, expected):
    assert client(peer, forwarded, PROXIES) == expected


def test_without_trusted_proxies_nothing_is_believed():
    assert client("10.1.1.1", ["198.51.100.1"], []) == "10.1.1.1"


def test_the_addresses_of_one_ipv6_network_are_limited_together():
    assert group("2001:db8:1:2:3::4") == group("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert group("198.51.100.1") == "198.51.100.1"
    assert group(UNKNOWN) == UNKNOWN
