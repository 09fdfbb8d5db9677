"""Run ``penstock`` and die by SIGKILL at the n-th time that a stage is reached: ``runner.py STAGE N -- up ...``."""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from penstock.cli import main

STAGES = {
    "receiving": ("penstock.platform.archive.reception", "Reception.write", "after"),
    "received": ("penstock.platform.archive.reception", "Reception.keep", "before"),
    "moved": ("penstock.platform.archive.folder", "Folder.keep", "after"),
    "kept": ("penstock.platform.archive.reception", "Reception.keep", "after"),
    "logging": ("penstock.runtime.wal", "Wal.append", "before"),
    "logged": ("penstock.runtime.wal", "Wal.append", "after"),
    "sent": ("penstock.platform.archive", "Archive.settle", "after"),
    "parsing": ("penstock.apps.health.export.points", "parse", "before"),
    "parsed": ("penstock.apps.health.export.points", "parse", "after"),
    "committed": ("penstock.platform.outcomes", "Outcomes.settle", "before"),
    "settled": ("penstock.platform.outcomes", "Outcomes.settle", "after"),
    "acked": ("penstock.delivery", "Delivery.ack", "after"),
}
"""Where the process dies: a function of a module, and whether before or after it has run."""


def die_at(stage: str, number: int) -> None:
    """Replace the function of a stage by one that kills this process the n-th time."""
    module_name, path, when = STAGES[stage]
    owner: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, _deadly(getattr(owner, name), number, when))


def _deadly(function: Callable[..., Any], number: int, when: str) -> Callable[..., Any]:
    calls = itertools.count(1)

    def reached() -> None:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(function)
    def plain(*arguments: Any, **options: Any) -> Any:
        if when == "before":
            reached()
        result = function(*arguments, **options)
        if when == "after":
            reached()
        return result

    @functools.wraps(function)
    async def coroutine(*arguments: Any, **options: Any) -> Any:
        if when == "before":
            reached()
        result = await function(*arguments, **options)
        if when == "after":
            reached()
        return result

    return coroutine if inspect.iscoroutinefunction(function) else plain


if __name__ == "__main__":
    stage, number, _, *rest = sys.argv[1:]
    if stage != "none":
        die_at(stage, int(number))
    sys.argv = ["penstock", *rest]
    main()
