"""The folder in which data, and the environment of the peers, are kept from one run to the next."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def folder() -> Path:
    """Return the cache folder, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    found = Path(base) / "penstock-benchmarks"
    found.mkdir(parents=True, exist_ok=True)
    return found
