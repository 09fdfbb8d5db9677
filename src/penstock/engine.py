"""Run several streams and services in one process: restarts, signals, health."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from .backoff import Stopped, pause
from .checkpoint import CheckpointStore, Ledger
from .config.configuration import Configuration, HealthCheck
from .context import Context
from .errors import ConfigError, ConnectionLost, PenstockError
from .observe.health import Pages, Status
from .observe.logs import correlation_id, stream_name
from .observe.metrics import StreamMetrics
from .runtime.flow import Flow
from .serving.listener import Listeners
from .state import open_store
from .stream import Stream

log = logging.getLogger("penstock")

State: TypeAlias = Literal["created", "starting", "running", "restarting", "finished", "stopped", "failed"]


class Service(Protocol):
    """Something that runs beside the streams, such as an API, until it is told to stop."""

    async def serve(self, context: Context, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set. What it serves it names in ``served()`` as inputs do, if it has that."""
        ...


class Supervised:
    """One stream under supervision: started, watched, and started again when it fails."""

    def __init__(self, stream: Stream, context: Context, stop: asyncio.Event) -> None:
        self.stream, self._context, self._stop = stream, context, stop
        self.metrics = StreamMetrics(stream.id)
        self.state: State = "created"
        self.failure: str | None = None
        self.restarts = 0
        self.flow: Flow | None = None

    async def run(self) -> None:
        """Run to the end, the stop, or the last failure that is answered with a restart; never raises."""
        stream_name.set(self.stream.id)
        attempt = 0
        while True:
            started = time.monotonic()
            self.state, self.failure = "starting", None
            correlation_id.set(uuid.uuid4().hex[:12])  # ties together the lines of one start
            try:
                self.flow = Flow(self.stream, self._context, self._stop, self.metrics)
                self.flow.when_open = self._opened
                await self.flow.run()
                self.state = "stopped" if self._stop.is_set() else "finished"
                break
            except Stopped as error:
                log.warning("%s: stopped while %s", self.stream.id, error)
                self.state = "stopped"
                break
            except Exception as error:
                self.failure = str(error) or type(error).__name__
                if not isinstance(error, PenstockError):
                    log.exception("%s: %s", self.stream.id, self.failure)
                if time.monotonic() - started > self.stream.restart.maximum:
                    attempt = 0
                if isinstance(error, ConfigError) or self._stop.is_set() or self._exhausted(attempt):
                    self.state = "failed"
                    log.error("%s failed: %s", self.stream.id, self.failure)
                    break
            delay = self.stream.restart.delay(attempt)
            attempt, self.restarts, self.state = attempt + 1, self.restarts + 1, "restarting"
            self.metrics.restarting()
            log.error("%s failed, starting again in %.1f s: %s", self.stream.id, delay, self.failure)
            await pause(delay, self._stop)
        self.metrics.down()

    def _exhausted(self, attempt: int) -> bool:
        attempts = self.stream.restart.attempts
        return attempts is not None and attempt >= attempts

    def _opened(self) -> None:
        self.state = "running"

    def status(self) -> Status:
        """How the stream is, for the health pages."""
        return Status(
            id=self.stream.id,
            state=self.state,
            trouble=self.failure or self.metrics.trouble,
            rows_in=self.metrics.rows_in,
            rows_out=self.metrics.rows_out,
            rows_refused=self.metrics.refused,
            restarts=self.restarts,
        )


class Engine:
    """Several streams and services, independent of one another, with one set of health pages."""

    def __init__(
        self,
        streams: Sequence[Stream],
        services: Iterable[Service] = (),
        *,
        health_check: HealthCheck | None = None,
        state: str | None = None,
        data: Path = Path("penstock-data"),
    ) -> None:
        self._streams, self._services = streams, tuple(services)
        self._health = health_check or HealthCheck(enabled=False)
        self._state, self._data = state, data
        self.supervised: list[Supervised] = []

    @classmethod
    def of(cls, configuration: Configuration, services: Iterable[Service] = ()) -> Engine:
        """Return the engine that a configuration describes."""
        return cls(
            configuration.all_streams(),
            services,
            health_check=configuration.health_check,
            state=configuration.state,
            data=configuration.data,
        )

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Run until every stream has ended or ``stop`` is set and all is settled.

        Services end first: the streams still take what they are answering for. Raises PenstockError naming the streams
        that failed, once the others have ended.
        """
        stop = stop or asyncio.Event()
        async with AsyncExitStack() as stack:
            store = await self._open_store(stack)
            context = Context("", store, Ledger(store.save), self._data, Listeners(), log=log)
            stopping, ending = asyncio.Event(), asyncio.Event()
            self.supervised = [Supervised(stream, self._lend(context, store), stopping) for stream in self._streams]
            self._expect_routes(context.listeners)
            if self._health.enabled:
                await self._open_pages(stack, context.listeners)
            async with asyncio.TaskGroup() as group:
                services = [group.create_task(service.serve(context, ending)) for service in self._services]
                in_order = group.create_task(_stop_in_order(stop, ending, services, stopping))
                await asyncio.gather(*(supervised.run() for supervised in self.supervised))
                if services and not self.failed:
                    await stop.wait()
                ending.set()
                in_order.cancel()
        if self.failed:
            raise PenstockError("; ".join(f"{one.stream.id}: {one.failure}" for one in self.failed))

    def _lend(self, context: Context, store: CheckpointStore) -> Context:
        return Context("", store, Ledger(store.save), self._data, context.listeners, log=log)

    @property
    def failed(self) -> list[Supervised]:
        """The streams that have failed for good."""
        return [one for one in self.supervised if one.state == "failed"]

    def _expect_routes(self, listeners: Listeners) -> None:
        """Until everything is open, what will be served is answered "try again" rather than "no such path"."""
        for one in (*self._services, *(stream.input for stream in self._streams)):
            for address, path in getattr(one, "served", tuple)():
                listeners.expect(address, path)

    async def _open_store(self, stack: AsyncExitStack) -> CheckpointStore:
        where = self._state or str(self._data / "state.db")
        return await stack.enter_async_context(open_store(where))

    async def _open_pages(self, stack: AsyncExitStack, listeners: Listeners) -> None:
        pages = Pages(lambda: [one.status() for one in self.supervised], self._health)
        try:
            for path, page in pages.routes().items():
                await stack.enter_async_context(listeners.mount(self._health.address, path, page))
        except ConnectionLost as error:
            # A second process on this machine, most likely; the streams matter more than their pages.
            log.warning("health pages are not served: %s", error)


async def _stop_in_order(
    stop: asyncio.Event, ending: asyncio.Event, services: Sequence[asyncio.Task[None]], stopping: asyncio.Event
) -> None:
    """Once ``stop`` is set, let the services end, and then the streams."""
    await stop.wait()
    ending.set()
    if services:
        await asyncio.wait(services)
    stopping.set()
