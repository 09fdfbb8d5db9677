"""The browser that tests look at pages with."""

from __future__ import annotations

from pathlib import Path

from .programs import find_program


def browser_program() -> Path:
    """Return where a Chromium is; raises ServerMissing."""
    return find_program("Chromium", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
