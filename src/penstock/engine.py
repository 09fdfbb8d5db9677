"""Run several streams and services in one process: restarts, signals, health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import IO

from .backoff import Stop
from .checkpoint import CheckpointStore, Ledger
from .clock import Clock
from .config.configuration import Configuration, HealthCheck
from .context import Context
from .errors import ConfigError, ConnectionLost, PenstockError
from .observe.health import Pages
from .runtime.lock import lock
from .serving.listener import Listeners
from .state import open_store
from .stream import Restart, Stream
from .supervision import Service, Supervised, SupervisedService, SupervisedStream

__all__ = ["Engine", "Service", "Supervised"]

log = logging.getLogger("penstock")

SHUTDOWN_TIMEOUT = 30.0
"""How many seconds a stop may take where no stream says it."""


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
        restart: Restart | None = None,
        clock: Clock | None = None,
    ) -> None:
        """``restart`` is how often and how patiently a service that fails is started again.

        By ``clock`` everything tells the time and waits; tests give one whose time they move.
        """
        self._streams, self._services = streams, tuple(services)
        self._restart, self._clock = restart or Restart(), clock or Clock()
        self._health = health_check or HealthCheck(enabled=False)
        self._state, self._data = state, data
        self.supervised: list[SupervisedStream] = []
        self.services: list[SupervisedService] = []

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

        Services end first: the streams still take what they are answering for. A service that fails for good ends all,
        in the same order. Raises PenstockError naming the streams and services that failed, once the others have ended.
        """
        stop = stop or asyncio.Event()
        async with AsyncExitStack() as stack:
            for held in await asyncio.to_thread(self._hold_streams):
                stack.callback(held.close)
            store = await self._open_store(stack)
            ledger = Ledger(store.save, clock=self._clock)
            context = Context(
                "", store, ledger, self._data, clock=self._clock, log=log, streams=lambda: self.supervised
            )
            ending, stopping = asyncio.Event(), Stop()
            self.supervised = [SupervisedStream(one, self._lend(context, store), stopping) for one in self._streams]
            self.services = [SupervisedService(one, self._restart, context, ending) for one in self._services]
            self._expect_routes(context.listeners)
            if self._health.enabled:
                await self._open_pages(stack, context.listeners)
            async with asyncio.TaskGroup() as group:
                services = [group.create_task(_serve(one, ending)) for one in self.services]
                in_order = group.create_task(self._stop_in_order(stop, ending, services, stopping))
                await asyncio.gather(*(one.run() for one in self.supervised))
                if self.failed:
                    ending.set()
                if services:
                    await asyncio.wait(services)
                in_order.cancel()
        if self.failed:
            raise PenstockError("; ".join(f"{one.name}: {one.failure}" for one in self.failed))

    async def _stop_in_order(
        self, stop: asyncio.Event, ending: asyncio.Event, services: Sequence[asyncio.Task[None]], stopping: Stop
    ) -> None:
        """Once ``stop`` or ``ending`` is set, let the services end, for half of the time at most, then the streams."""
        either = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(ending.wait())]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in either:
                waiting.cancel()
        ending.set()
        stopping.asked_at = self._clock.monotonic()
        timeout = self.shutdown_timeout
        if services:
            with suppress(TimeoutError):
                async with self._clock.timeout(timeout / 2):
                    await asyncio.wait(services)
            late = [service for service in services if not service.done()]
            for service in late:
                service.cancel()
            if late:
                log.warning("%d services did not end within %.0f s and are cancelled", len(late), timeout / 2)
        stopping.set()

    @property
    def shutdown_timeout(self) -> float:
        """How many seconds a stop may take: as long as its most patient stream."""
        return max((stream.shutdown_timeout for stream in self._streams), default=SHUTDOWN_TIMEOUT)

    def _lend(self, context: Context, store: CheckpointStore) -> Context:
        ledger = Ledger(store.save, clock=self._clock)
        return Context("", store, ledger, self._data, context.listeners, context.shared, clock=self._clock, log=log)

    @property
    def failed(self) -> list[Supervised]:
        """The streams and services that have failed for good."""
        return [one for one in (*self.supervised, *self.services) if one.state == "failed"]

    def _expect_routes(self, listeners: Listeners) -> None:
        """Until everything is open, what will be served is answered "try again" rather than "no such path"."""
        served = [one.served() for one in self._services] + [stream.input.served() for stream in self._streams]
        for paths in served:
            for address, path in paths:
                listeners.expect(address, path)

    def _hold_streams(self) -> list[IO[str]]:
        """Keep other processes from the streams that keep anything; raises ConfigError if one of them runs already."""
        held: list[IO[str]] = []
        for stream in self._streams:
            is_logged = stream.durability is not None and stream.durability.enabled
            if self._state == "memory" and stream.checkpoint == "state" and not is_logged:
                continue
            try:
                held.append(
                    lock(
                        self._data / "locks" / f"{stream.id}{stream.identity}",
                        f"the stream {stream.id!r} of {self._data}",
                    )
                )
            except ConfigError:
                for one in held:
                    one.close()
                raise
            except OSError as error:  # A disk that is full or may not be written is told where it matters.
                log.debug("%s: no lock: %s", stream.id, error)
        return held

    async def _open_store(self, stack: AsyncExitStack) -> CheckpointStore:
        where = self._state or str(self._data / "state.db")
        return await stack.enter_async_context(open_store(where))

    async def _open_pages(self, stack: AsyncExitStack, listeners: Listeners) -> None:
        pages = Pages(
            lambda: [one.status() for one in self.supervised],
            self._health,
            services=lambda: [one.status() for one in self.services],
        )
        try:
            for path, page in pages.routes().items():
                await stack.enter_async_context(listeners.mount(self._health.address, path, page, probe=True))
        except ConnectionLost as error:
            # A second process on this machine, most likely; the streams matter more than their pages.
            log.warning("health pages are not served: %s", error)


async def _serve(one: SupervisedService, ending: asyncio.Event) -> None:
    """Run a service; once it has failed for good, all is to end."""
    await one.run()
    if one.state == "failed":
        ending.set()
