"""A lost writer is closed and opened again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import PrivateAttr

from penstock import Context, Output
from penstock.backoff import Backoff
from penstock.component import Writer
from penstock.delivery import Batch
from penstock.errors import ConnectionLost, TransientError
from penstock.observe.metrics import StreamMetrics
from penstock.runtime.writer import ReconnectingWriter
from penstock.testing.batches import sample
from penstock.testing.contexts import lend_context


class Breaking(Output, type="test_breaking"):
    """Be lost at the first write; once lost, a writer works no more."""

    _events: list[str] = PrivateAttr(default_factory=list)
    _error: list[Exception] = PrivateAttr(default_factory=list)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        self._events.append("open")
        try:
            yield _BreakingWriter(self._events, self._error)
        finally:
            self._events.append("close")


class _BreakingWriter:
    def __init__(self, events: list[str], errors: list[Exception]) -> None:
        self._events, self._errors, self._is_lost = events, errors, False

    async def write(self, batches: Sequence[Batch]) -> None:
        if self._errors:
            self._is_lost = True
            raise self._errors.pop()
        assert not self._is_lost, "a writer that was lost is used again"
        self._events.append("write")


@pytest.mark.parametrize("error", [ConnectionLost("gone"), ConnectionResetError("reset"), TimeoutError("late")])
async def test_a_lost_writer_is_closed_and_opened_again(error: Exception, tmp_path: Path) -> None:
    output = Breaking()
    output._error.append(error)
    backoff = Backoff.model_validate({"initial": "1ms", "maximum": "2ms"})
    async with lend_context(tmp_path) as context, asyncio.timeout(60):
        writer = ReconnectingWriter(output, context, backoff, asyncio.Event(), StreamMetrics("test_sink"))
        await writer.call(lambda opened: opened.write([sample()]))
        await writer.close()
    assert output._events == ["open", "close", "open", "write", "close"]


async def test_the_wait_that_the_other_side_asked_for_was_not_respected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backoff = Backoff.model_validate({"initial": "1ms", "maximum": "20ms"})
    errors = [TransientError("busy", after=60.0)]

    async def fail_once(_: Writer) -> None:
        if errors:
            raise errors.pop()

    async with lend_context(tmp_path) as context, asyncio.timeout(60):
        writer = ReconnectingWriter(Breaking(), context, backoff, asyncio.Event(), StreamMetrics("test_sink"))
        await writer.call(fail_once)
        await writer.close()
    assert "again in 0.02 s" in caplog.text
