"""Run a stream as ``penstock run`` does, measured from opening to the last saved position."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from .case import Span, measured


def run(folder: Path, stream: dict[str, Any]) -> Span:
    """Run a stream to its end; positions are kept on disk, as they are by default."""
    import uvloop

    from penstock import Configuration, Engine

    configuration = Configuration.model_validate(
        {"streams": [stream], "data": folder / "data", "health_check": {"enabled": False}}
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, measured() as span:
        runner.run(Engine.of(configuration).run())
    return span
