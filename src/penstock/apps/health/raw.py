"""Where the bodies are kept that phones have sent, with what was accepted."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigError
from ...platform.archive import Archive
from .acceptance import Accepted
from .settings import Settings


class Raw(Archive[Accepted]):
    """The archive of the bodies, in a folder or at the URL of an object store; raises ConfigError."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        try:
            super().__init__(folder, Accepted, url)
        except ConfigError as error:
            raise ConfigError(f"raw_url: {error}") from None

    @classmethod
    def of(cls, settings: Settings) -> Raw:
        """Return the one that ``settings`` describe; raises ConfigError. Nothing is opened yet."""
        return cls(settings.data / "health" / "raw", settings.raw_url)
