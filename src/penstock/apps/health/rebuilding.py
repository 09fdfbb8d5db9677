"""Make the tables of points anew from the stored bodies."""

from __future__ import annotations

from collections.abc import Callable

from ...api import run_sync
from ...application import Installation
from ...inputs.memory import Memory
from ...platform.database import Database
from ...runtime.logfolder import hold
from .acceptance import batch
from .application import Health
from .raw import Raw
from .store.rebuild import forget


def rebuild(database: Database, installation: Installation, confirm: Callable[[], object] = bool) -> str:
    """Empty the tables of points and process all stored bodies again; returns what was done.

    ``confirm`` is called once nothing stands in the way, and raises if nothing is to be done.

    Interrupted, it may be run again. Raises PenstockError, also while ``penstock up``
    runs here: it holds the log.
    """
    data = installation.data
    stream = next(one for one in Health().streams(installation) if one.id == "health")
    with hold(data / "wal" / stream.id):
        confirm()
        accepted = list(Raw.of(Health().settings(installation)).receipts())
        database.call(forget, changes=True)
        if accepted:
            # Read from a list, in place of the feed and its log.
            listed = Memory(messages=[batch(one) for one in accepted])
            again = stream.model_copy(update={"id": "health-rebuild", "input": listed, "durability": None})
            run_sync(again, data=data)
    return f"{len(accepted)} bodies are processed again"
