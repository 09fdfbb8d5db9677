"""Where maps get their tiles from, if an installation wants any: the only thing that a page fetches from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ...errors import ConfigError
from ...platform.pages import POLICY

_URL = re.compile(r"(https?)://((?:\{s\}\.)?[A-Za-z0-9.-]+(?::[0-9]+)?)(/[A-Za-z0-9._~%/?=&{}@+-]*)")
_FIELDS = re.compile(r"\{([^}]*)\}")
_KNOWN = {"s", "x", "y", "z", "r"}


class Tiles(NamedTuple):
    """The address of tiles, with `{z}`, `{x}` and `{y}` in it, and whom to name."""

    url: str | None = None
    credit: str = ""

    @classmethod
    def of(cls, url: str | None, credit: str, environment: Mapping[str, str]) -> Tiles:
        """Return what is configured, else what `PENSTOCK_TILES` and `PENSTOCK_TILES_CREDIT` say; raises ConfigError."""
        found = cls(
            url or environment.get("PENSTOCK_TILES") or None, credit or environment.get("PENSTOCK_TILES_CREDIT", "")
        )
        if found.url is not None:
            fields = set(_FIELDS.findall(found.url))
            if not _URL.fullmatch(found.url) or not {"x", "y", "z"} <= fields <= _KNOWN:
                raise ConfigError("tiles: expected an address such as https://tiles.example.org/{z}/{x}/{y}.png")
        return found

    @property
    def policy(self) -> str:
        """The Content-Security-Policy of a page that shows them."""
        found = _URL.fullmatch(self.url) if self.url is not None else None
        if found is None:
            return POLICY
        origin = f"{found[1]}://{found[2].replace('{s}', '*')}"
        return POLICY.replace("img-src 'self'", f"img-src 'self' {origin}")
