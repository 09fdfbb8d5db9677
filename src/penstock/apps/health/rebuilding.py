"""Make the tables of points anew from the stored bodies."""

from __future__ import annotations

import os
from pathlib import Path

from ...api import run_sync
from ...config.configuration import loads
from ...inputs.memory import Memory
from ...platform.database import Database
from ...runtime.wal import hold
from ...stream import Stream
from .acceptance import batch
from .app import streams_yaml
from .raw import Raw
from .settings import Settings
from .store.rebuild import forget


def rebuild(database: Database, url: str, data: Path) -> str:
    """Empty the tables of points and process all stored bodies again; returns what was done.

    ``url`` is that of ``database``. Interrupted, it may be run again. Raises PenstockError, also while ``penstock up``
    runs here: it holds the log.
    """
    stream = _stream(url, data)
    with hold(data / "wal" / stream.id):
        accepted = list(Raw.of(Settings.of(data=data)).list())
        database.call(forget, changes=True)
        if accepted:
            # Read from a list, in place of the feed and its log.
            listed = Memory(messages=[batch(one) for one in accepted])
            again = stream.model_copy(update={"id": "health-rebuild", "input": listed, "durability": None})
            run_sync(again, data=data)
    return f"{len(accepted)} bodies are processed again"


def _stream(url: str, data: Path) -> Stream:
    """Return the stream that is shipped."""
    environment = {**os.environ, "PENSTOCK_DATABASE_URL": url, "PENSTOCK_DATA": str(data)}
    return next(one for one in loads(streams_yaml(), environment=environment).streams if one.id == "health")
