"""What a terminal shows while streams run: rows, rate, lag and refused rows of each."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..config.configuration import Configuration
from ..engine import Engine
from ..supervision import SupervisedStream


@contextmanager
def show_progress(engine: Engine, configuration: Configuration) -> Iterator[None]:
    """Show the progress on standard error if that is a terminal which nothing else writes rows to."""
    prints = any(stream.output.type_name == "stdout" for stream in configuration.all_streams())
    if not sys.stderr.isatty() or (prints and sys.stdout.isatty()):
        yield
        return
    from rich.console import Console
    from rich.live import Live

    progress = Progress(engine)
    with Live(
        console=Console(stderr=True),
        get_renderable=progress.table,
        refresh_per_second=4,
        transient=True,
        redirect_stdout=False,
    ):
        yield


class Progress:
    """Makes the table, and remembers the last counts for the rates."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last: dict[str, tuple[float, int, float]] = {}

    def table(self):  # type: ignore[no-untyped-def]  # rich is imported only where there is a terminal
        """Return one line for each stream."""
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("stream", no_wrap=True)
        for column in ("rows in", "rows out", "rows/s", "lag", "refused"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("state", overflow="ellipsis", no_wrap=True)
        for supervised in self._engine.supervised:
            status = supervised.status()
            table.add_row(
                status.id,
                f"{status.rows_in:,}",
                f"{status.rows_out:,}",
                f"{self._rate(status.id, status.rows_out):,.0f}",
                lag(supervised),
                f"{status.rows_refused:,}",
                f"{status.state}: {status.trouble}" if status.trouble else status.state,
            )
        return table

    def _rate(self, stream: str, rows: int) -> float:
        now = time.monotonic()
        then, before, rate = self._last.get(stream, (now, rows, 0.0))
        if now - then >= 1:
            rate = (rows - before) / (now - then)
            self._last[stream] = (now, rows, rate)
        elif stream not in self._last:
            self._last[stream] = (now, rows, 0.0)
        return rate


def lag(supervised: SupervisedStream) -> str:
    """Return how much is left to read, where that is known."""
    progress = supervised.flow.progress if supervised.flow is not None else None
    if progress is None or progress.total is None:
        return ""
    return f"{max(0, progress.total - progress.done):,} {progress.unit}"
