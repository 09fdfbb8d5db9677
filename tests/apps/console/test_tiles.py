"""Tiles of the choice of an installation: one more origin for pictures, and nothing else of the policy changes."""

from __future__ import annotations

import pytest

from penstock.apps.console.tiles import Tiles
from penstock.errors import ConfigError
from penstock.platform.pages import POLICY


def test_without_tiles_a_page_fetches_nothing_from_elsewhere() -> None:
    assert Tiles.of(None, "", {}).policy == POLICY


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://tiles.example.org/{z}/{x}/{y}.png", "https://tiles.example.org"),
        ("http://127.0.0.1:8081/osm/{z}/{x}/{y}.png?style=dark", "http://127.0.0.1:8081"),
        ("https://{s}.example.org/{z}/{x}/{y}{r}.png", "https://*.example.org"),
    ],
)
def test_tiles_open_the_policy_for_pictures_of_their_origin_alone(url: str, origin: str) -> None:
    for found in (Tiles.of(url, "them", {}), Tiles.of(None, "", {"PENSTOCK_TILES": url})):
        assert found.policy == POLICY.replace("img-src 'self'", f"img-src 'self' {origin}")
        assert found.url == url


@pytest.mark.parametrize(
    "url",
    [
        "https://tiles.example.org/",
        "javascript:alert(1)//{z}/{x}/{y}",
        "https://x; script-src */{z}/{x}/{y}",
        "https://tiles.example.org/{z}/{x}/{y}/{token}",
        "https://user:secret@tiles.example.org/{z}/{x}/{y}",
        "//tiles.example.org/{z}/{x}/{y}",
        "https://*/{z}/{x}/{y}",
        "https://tiles.example.org/{z}/{x}/{y}\r\nset-cookie: a=b",
        "https://tiles.example.org/{z}/{x}/{y}\n",
    ],
)
def test_an_address_of_no_tiles_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="tiles: expected an address"):
        Tiles.of(url, "", {})
