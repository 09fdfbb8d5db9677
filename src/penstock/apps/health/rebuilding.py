"""Make the tables of points anew from the stored bodies."""

from __future__ import annotations

from pathlib import Path

from ...api import run_sync
from ...config import loads
from ...inputs.memory import Memory
from .acceptance import Accepted, batch
from .app import streams_yaml
from .database import Database
from .raw import Raw
from .settings import Settings
from .store.rebuild import forget


def rebuild(database: Database, url: str, data: Path) -> str:
    """Empty the tables of points and process all stored bodies again; returns what was done.

    ``url`` is that of ``database``. Raises PenstockError. Interrupted, it may be run again.
    """
    settings = Settings.of(data=data)
    accepted = list(Raw.of(settings).list())
    database.call(forget, changes=True)
    if accepted:
        _process(accepted, url, data)
    return f"{len(accepted)} bodies are processed again"


def _process(accepted: list[Accepted], url: str, data: Path) -> None:
    """Send the bodies through the stream that is shipped, read from a list in place of the feed and its log."""
    environment = {"PENSTOCK_DATABASE_URL": url, "PENSTOCK_DATA": str(data)}
    stream = next(one for one in loads(streams_yaml(), environment=environment).streams if one.id == "health")
    listed = Memory(messages=[batch(one) for one in accepted])
    run_sync(stream.model_copy(update={"id": "health-rebuild", "input": listed, "durability": None}), data=data)
