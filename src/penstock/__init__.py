"""One streaming-ELT engine for the data people own. Nothing it has accepted is ever lost."""

from __future__ import annotations

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
