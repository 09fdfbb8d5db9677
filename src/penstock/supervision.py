"""Start streams and services, watch them, and start them again when they fail."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from .backoff import Stop, Stopped
from .context import Context
from .delivery import Position
from .errors import ConfigError, ConnectionLost, PenstockError, PermanentError, TransientError
from .observe.health import Status
from .observe.logs import correlation_id, stream_name
from .observe.metrics import StreamMetrics
from .runtime.flow import Flow
from .stream import Restart, Stream

log = logging.getLogger("penstock")

FAILURE_SHOWN_FOR = 2.0
"""Seconds for which a failure is shown once the thing that failed is running again."""

State: TypeAlias = Literal["created", "starting", "running", "restarting", "paused", "finished", "stopped", "failed"]


class Service(Protocol):
    """Runs beside the streams, such as an API, until it is told to stop."""

    @property
    def name(self) -> str:
        """Name it in logs, on the health page and in errors."""
        ...

    def served(self) -> Sequence[tuple[str, str]]:
        """Return the addresses and paths that it serves."""
        ...

    async def serve(self, context: Context, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; called again after it raises, unless that is a ConfigError."""
        ...


class Supervised:
    """Run one thing until it ends, is stopped, or has failed as often as it may."""

    def __init__(self, name: str, restart: Restart, context: Context, stop: asyncio.Event) -> None:
        self.name, self._restart, self._context, self._stop = name, restart, context, stop
        self._clock = context.clock
        self._halt = stop
        """What ends the run that is under way."""
        self.state: State = "created"
        self.failure: str | None = None
        self.began_at: float | None = None
        """When its run that is under way began, in seconds since 1970."""
        self.restarts = 0
        self._opened_at = 0.0

    async def run(self) -> None:
        """Run to the end, the stop, or the last failure; never raises an Exception."""
        stream_name.set(self.name)
        attempt = 0
        while True:
            started = self._clock.monotonic()
            self.state, self.began_at = "starting", self._clock.time()
            correlation_id.set(uuid.uuid4().hex[:12])  # ties together the lines of one start
            try:
                await self._attempt()
                self.state, self.failure = "stopped" if self._halt.is_set() else "finished", None
                return
            except Stopped as stopped:
                log.warning("%s: stopped while %s", self.name, stopped)
                self.state = "stopped"
                return
            except Exception as raised:
                error = _cause(raised)
                self.failure = str(error) or type(error).__name__
                if not isinstance(error, PenstockError):
                    log.exception("%s: %s", self.name, self.failure)
                if self._clock.monotonic() - started > self._restart.maximum:
                    attempt = 0
                if self._halt.is_set() or self._is_final(error, attempt):
                    self.state = "failed"
                    log.error("%s failed: %s", self.name, self.failure)
                    return
            delay = self._restart.delay(attempt)
            attempt, self.restarts, self.state = attempt + 1, self.restarts + 1, "restarting"
            log.error("%s failed, starting again in %.1f s: %s", self.name, delay, self.failure)
            self._restarting()
            if await self._clock.wait(self._halt, delay):
                self.state = "stopped"
                return

    async def _attempt(self) -> None:
        raise NotImplementedError

    def _restarting(self) -> None:
        """Note that it is about to be started again."""

    def _is_final(self, error: Exception, attempt: int) -> bool:
        """Whether it is not started again after ``error``, the failure behind ``attempt`` others."""
        is_exhausted = self._restart.attempts is not None and attempt >= self._restart.attempts
        return isinstance(error, ConfigError) or is_exhausted

    def _opened(self) -> None:
        self.state, self._opened_at = "running", self._clock.monotonic()

    def _failure_shown(self) -> str | None:
        """Return the last failure, also for a moment after a restart: what fails again at once was never well."""
        if self.state == "running" and self._clock.monotonic() - self._opened_at > FAILURE_SHOWN_FOR:
            self.failure = None
        return self.failure

    def status(self) -> Status:
        """Describe its state for the health pages."""
        return Status(self.name, self.state, self._failure_shown(), None, 0, 0, 0, self.restarts)


class SupervisedStream(Supervised):
    """Run one stream under supervision."""

    def __init__(self, stream: Stream, context: Context, stop: asyncio.Event) -> None:
        super().__init__(stream.id, stream.restart, context, stop)
        self.stream = stream
        self.metrics = StreamMetrics(stream.id, stream.stall_timeout, context.clock)
        self.flow: Flow | None = None
        self._halt = Stop()  # its own from the start: a pause before it begins is no stop of all
        self._is_paused = self._is_ending = False
        self._resumed = asyncio.Event()

    async def run(self) -> None:
        """Run to the end, the stop, or the last failure, with the pauses asked for; never raises an Exception."""
        while True:
            if self._is_paused and await self._is_stopped_while_paused():  # also before it has begun
                return
            if self._is_ending:
                self.state = "stopped"
                return
            self._halt = Stop()
            following = asyncio.ensure_future(self._follow_stop(self._halt))
            try:
                await super().run()
            finally:
                following.cancel()
            self.metrics.down()
            if self._stop.is_set() or self._is_ending or not self._halt.is_set() or self.state == "finished":
                return

    def pause(self) -> None:
        """Read nothing more, write what is in flight, and stay so until ``resume``; raises PermanentError.

        Returns at once: the state says "paused" when all is written. What is not written in time is read again later. A
        pause does not outlive the process.
        """
        self._refuse_change()
        self._is_paused = True
        self._resumed.clear()
        self._halt.set()

    @property
    def is_halting(self) -> bool:
        """Whether it writes what is in flight and then stops reading."""
        return self._halt.is_set() and self.state in ("starting", "running", "restarting")

    def resume(self) -> None:
        """Go on after a pause, where it ended; raises PermanentError."""
        if not self._is_paused or self._stop.is_set():
            raise PermanentError(f"{self.name} is not paused: it is {self.state}")
        self._is_paused = False
        self._resumed.set()

    def restart(self) -> None:
        """Read nothing more, write what is in flight, and open everything anew; raises PermanentError."""
        self._refuse_change()
        self._halt.set()

    def rewind(self, positions: Mapping[str, Position | None]) -> None:
        """Read partitions again from other positions, None for the beginning, by their keys; raises PermanentError.

        What is in flight is written first. A stream that is paused reads from there once it goes on. Until the first
        row is written, a crash undoes it.
        """
        if self._stop.is_set() or self.state in ("finished", "stopped", "failed"):
            self._refuse_change()
        if unknown := sorted(set(positions) - (self.flow.replays() if self.flow is not None else {}).keys()):
            raise PermanentError(f"{self.name} cannot read {unknown[0]!r} again from another position")
        self._context.rewound.update(positions)
        if not self._is_paused:
            self._halt.set()

    def end(self) -> None:
        """Read nothing more, write what is in flight, and run no more."""
        self._is_ending = True
        self._is_paused = False
        self._halt.set()
        self._resumed.set()

    def _refuse_change(self) -> None:
        if self._is_paused:
            raise PermanentError(f"{self.name} is paused already: resume it")
        if self._stop.is_set() or self.state in ("finished", "stopped", "failed"):
            raise PermanentError(f"{self.name} has ended: it is {self.state}, and starts with the next start of all")

    async def _follow_stop(self, halt: Stop) -> None:
        await self._stop.wait()
        halt.asked_at = self._stop.asked_at if isinstance(self._stop, Stop) else None
        halt.set()

    async def _is_stopped_while_paused(self) -> bool:
        """Wait until it is to go on; return whether all is to stop instead."""
        self.state, self.failure = "paused", None
        self.metrics.condition.clear_all()
        log.info("%s is paused", self.name)
        either = [asyncio.ensure_future(event.wait()) for event in (self._resumed, self._stop)]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in either:
                waiting.cancel()
        if self._stop.is_set() or self._is_ending:
            self.state = "stopped"
            return True
        log.info("%s goes on", self.name)
        return False

    async def _attempt(self) -> None:
        self.flow = Flow(self.stream, self._context, self._halt, self.metrics)
        self.flow.when_open = self._opened
        await self.flow.run()

    def _restarting(self) -> None:
        self.metrics.restarting()

    def status(self) -> Status:
        """Describe its state and how many rows it has moved, for the health pages."""
        return Status(
            id=self.name,
            state=self.state,
            trouble=self._failure_shown() or self.metrics.condition.trouble,
            note=self.metrics.condition.note,
            rows_in=self.metrics.rows_in,
            rows_out=self.metrics.rows_out,
            rows_refused=self.metrics.refused,
            restarts=self.restarts,
            lag=self.metrics.left_in,
        )


class SupervisedService(Supervised):
    """Run one service under supervision."""

    def __init__(self, service: Service, restart: Restart, context: Context, stop: asyncio.Event) -> None:
        super().__init__(service.name, restart, context, stop)
        self.service = service

    def _is_final(self, error: Exception, attempt: int) -> bool:
        # A server that is away comes back; until then the streams beside it, which wait for theirs, go on.
        return not isinstance(error, (ConnectionLost, TransientError)) and super()._is_final(error, attempt)

    async def _attempt(self) -> None:
        self._opened()
        await self.service.serve(self._context, self._stop)


def _cause(error: Exception) -> Exception:
    """Return the one error inside groups of one, such as a task group makes."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
