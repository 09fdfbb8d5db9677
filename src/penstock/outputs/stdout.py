"""Print rows on the standard output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pyarrow as pa
from pydantic import model_validator

from ..component import Output, Writer
from ..context import Context
from ..delivery import Batch
from ..errors import PenstockError
from ..framing import Framing, contents, join


class Stdout(Output, type="stdout"):
    """Print each row on a line of its own: as the codec encodes it, else `__value__`, else as JSON.

    Payloads are written as the bytes they are. All rows of one write go out together and are flushed. When
    the reader of a pipe has gone (``| head``), the stream stops.

    Example::

        type: stdout
    """

    append_newline: bool = True
    """End each payload with a line break, unless it has one."""

    @model_validator(mode="after")
    def _has_lines(self) -> Stdout:
        if self.codec is not None and self.append_newline:
            self.codec.check_lines()
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Yield a writer to the standard output, which is always open."""
        yield _Printer(self)


class _Printer:
    def __init__(self, config: Stdout) -> None:
        self._config = config

    async def write(self, batches: Sequence[Batch]) -> None:
        await asyncio.to_thread(self._print, batches)

    def _print(self, batches: Sequence[Batch]) -> None:
        text = b"".join(self._joined(self._config.payloads(batch)) for batch in batches if batch.num_rows)
        if not text:
            return
        try:
            sys.stdout.flush()
            buffer = getattr(sys.stdout, "buffer", None)
            if buffer is not None:
                buffer.write(text)
            else:
                sys.stdout.write(text.decode(errors="replace"))
            sys.stdout.flush()
        except BrokenPipeError as error:
            _forget_output()
            raise PenstockError("nobody reads the standard output any more: the pipe is closed") from error
        except (OSError, ValueError) as error:
            raise PenstockError(f"cannot write to the standard output: {error}") from error

    def _joined(self, payloads: pa.BinaryArray) -> pa.Buffer:
        return join(Framing.LINES, payloads) if self._config.append_newline else contents(payloads)


def _forget_output() -> None:
    """Point a closed pipe elsewhere, or Python would complain of what it cannot flush when it exits."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
