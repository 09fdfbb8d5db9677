"""One streaming-ELT engine for the data people own. Nothing it has accepted is ever lost."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import run, run_sync
    from .component import Buffer, Codec, Input, Output, Processor, Reader, TransactionalWriter, Writer
    from .config.configuration import Configuration, load, loads
    from .context import Context
    from .delivery import Batch, Delivery, merge
    from .engine import Engine
    from .errors import (
        ConfigError,
        ConnectionLost,
        EndOfInput,
        PenstockError,
        PermanentError,
        RowsRejected,
        TransientError,
    )
    from .options import Options
    from .stream import Pipeline, Stream

_MODULES = {
    "api": ("run", "run_sync"),
    "component": ("Buffer", "Codec", "Input", "Output", "Processor", "Reader", "TransactionalWriter", "Writer"),
    "config.configuration": ("Configuration", "load", "loads"),
    "context": ("Context",),
    "delivery": ("Batch", "Delivery", "merge"),
    "engine": ("Engine",),
    "errors": (
        "ConfigError",
        "ConnectionLost",
        "EndOfInput",
        "PenstockError",
        "PermanentError",
        "RowsRejected",
        "TransientError",
    ),
    "options": ("Options",),
    "stream": ("Pipeline", "Stream"),
}
"""Which module has which name. They are imported on first use: most commands need neither Arrow nor DataFusion."""

_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Batch",
    "Buffer",
    "Codec",
    "ConfigError",
    "Configuration",
    "ConnectionLost",
    "Context",
    "Delivery",
    "EndOfInput",
    "Engine",
    "Input",
    "Options",
    "Output",
    "PenstockError",
    "PermanentError",
    "Pipeline",
    "Processor",
    "Reader",
    "RowsRejected",
    "Stream",
    "TransactionalWriter",
    "TransientError",
    "Writer",
    "load",
    "loads",
    "merge",
    "run",
    "run_sync",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
