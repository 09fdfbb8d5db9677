"""Run several streams and services in one process: restarts, signals, health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from .backoff import Stop
from .checkpoint import CheckpointStore, Ledger
from .clock import Clock
from .config.configuration import Configuration, HealthCheck
from .context import Context
from .errors import ConfigError, ConnectionLost, PenstockError
from .observe.health import Pages
from .roster import Changes, Roster
from .serving.listener import Listeners
from .state import open_store
from .stream import Restart, Stream
from .supervision import Service, Supervised, SupervisedService, SupervisedStream
from .udf import keeping_functions

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
        self._roster: Roster | None = None
        self._listeners: Listeners | None = None
        self.services: list[SupervisedService] = []
        self.configuration: Configuration | None = None
        """The configuration that runs, if there is one."""
        self.read: Callable[[], Configuration] | None = None
        """Reads the configuration anew, from where it came; raises ConfigError."""

    @classmethod
    def of(
        cls,
        configuration: Configuration,
        services: Iterable[Service] = (),
        read: Callable[[], Configuration] | None = None,
    ) -> Engine:
        """Return the engine that a configuration describes, and that a reload has ``read`` anew."""
        engine = cls(
            configuration.all_streams(),
            services,
            health_check=configuration.health_check,
            state=configuration.state,
            data=configuration.data,
        )
        engine.configuration, engine.read = configuration, read
        return engine

    @property
    def supervised(self) -> list[SupervisedStream]:
        """The streams, whether they run or have ended."""
        return self._roster.supervised if self._roster is not None else []

    @property
    def is_running(self) -> bool:
        """Whether its streams have been begun."""
        return self._roster is not None and self._roster.has_begun

    async def reload(self) -> Changes:
        """Read the configuration anew and run it; raises ConfigError, and then nothing has changed."""
        if self.read is None:
            raise ConfigError("this process runs no file that could be read again")
        return await self.adopt(await asyncio.to_thread(keeping_functions, self.read))

    async def adopt(self, configuration: Configuration) -> Changes:
        """Run another configuration in place of the one that runs; raises ConfigError, and then nothing has changed."""
        if self.configuration is None or not self.is_running or self._roster is None or self._listeners is None:
            raise ConfigError("nothing runs yet: nothing was changed")
        if fixed := self.configuration.fixed_changes(configuration):
            raise ConfigError(
                f"{', '.join(fixed)}: a change of this takes effect with the next start; nothing was changed"
            )
        streams = configuration.all_streams()
        self._expect_routes(self._listeners, streams)
        anew = configuration.functions != self.configuration.functions
        changes = await self._roster.apply(streams, anew=anew)
        self.configuration, self._streams = configuration, streams
        log.info("the configuration was read again: %s", changes)
        return changes

    def start(self, id: str) -> None:
        """Run a stream that has ended once more; raises PermanentError if it runs, KeyError if there is none."""
        assert self._roster is not None
        self._roster.start(id)

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Run until every stream has ended or ``stop`` is set and all is settled; without streams, until the latter.

        Services end first: the streams still take what they are answering for. A service that fails for good ends all,
        in the same order. Raises PenstockError naming the streams and services that failed, once the others have ended.
        """
        stop, stopping = stop or asyncio.Event(), Stop()
        async with AsyncExitStack() as stack:
            roster = Roster(self._data, self._state, stopping)
            stack.callback(roster.release)
            await asyncio.to_thread(roster.hold, self._streams)
            store = await self._open_store(stack)
            ledger = Ledger(store.save, clock=self._clock)
            context = Context(
                "", store, ledger, self._data, clock=self._clock, log=log, streams=lambda: self.supervised
            )
            ending = asyncio.Event()
            self.services = [SupervisedService(one, self._restart, context, ending) for one in self._services]
            self._roster, self._listeners = roster, context.listeners
            self._expect_routes(context.listeners, self._streams)
            if self._health.enabled:
                await self._open_pages(stack, context.listeners)
            async with asyncio.TaskGroup() as group:
                roster.begin(self._streams, group, lambda: self._lend(context, store))
                services = [group.create_task(_serve(one, ending)) for one in self.services]
                in_order = group.create_task(self._stop_in_order(stop, ending, services, stopping))
                if services and not self._streams:
                    await asyncio.wait(services)
                    ending.set()
                await roster.wait()
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

    def _expect_routes(self, listeners: Listeners, streams: Sequence[Stream]) -> None:
        """Until everything is open, what will be served is answered "try again" rather than "no such path"."""
        served = [one.served() for one in self._services] + [stream.input.served() for stream in streams]
        for paths in served:
            for address, path in paths:
                listeners.expect(address, path)

    async def _open_store(self, stack: AsyncExitStack) -> CheckpointStore:
        where = self._state or str(self._data / "state.db")
        return await stack.enter_async_context(open_store(where))

    async def _open_pages(self, stack: AsyncExitStack, listeners: Listeners) -> None:
        pages = Pages(
            lambda: [one.status() for one in self.supervised],
            self._health,
            services=lambda: [one.status() for one in self.services],
        )
        from .control.routes import Control  # Not needed where no pages are served.

        taken = {path for one in self._services for address, path in one.served() if address == self._health.address}
        control = await stack.enter_async_context(Control(self, self._health, taken).open())
        try:
            for path, page in pages.routes().items():
                await stack.enter_async_context(listeners.mount(self._health.address, path, page, probe=True))
            for path, route in control.items():
                await stack.enter_async_context(listeners.mount(self._health.address, path, route))
        except ConnectionLost as error:
            # A second process on this machine, most likely; the streams matter more than their pages.
            log.warning("health pages are not served: %s", error)


async def _serve(one: SupervisedService, ending: asyncio.Event) -> None:
    """Run a service; once it has failed for good, all is to end."""
    await one.run()
    if one.state == "failed":
        ending.set()
