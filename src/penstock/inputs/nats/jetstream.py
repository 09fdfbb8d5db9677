"""Messages of a stream: pulled in batches, acked once they are durable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ...checkpoint import Checkpoint
from ...clients.arrivals import Arrivals, Receipts, chunks
from ...clients.nats import Server, classify_error
from ...component import Progress
from ...context import Context
from ...delivery import Batch, Delivery, Position
from ...errors import ConnectionLost, PermanentError
from ...metadata import Origin, payloads
from .origin import Told, origin

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from . import JetStream

REQUEST_TTL = 30.0
"""Seconds after which a request for messages is over, and made again."""
HEARTBEAT_INTERVAL = 5.0
"""Seconds from one sign of life to the next while there are no messages; after three without one it is gone."""
MAX_REQUEST_SIZE = 16 << 20
"""The most bytes asked for at once, unless one message may be larger."""
CLOSE_TIMEOUT = 2.0
_SECOND = 1_000_000_000
_OVER = ("Leadership Change", "Server Shutdown", "Batch Completed", "Message Size Exceeds MaxBytes", "Interest Expired")
"""What ends a request for messages and nothing else."""


async def ensure_consumer(client: Client, server: Server, mode: JetStream, max_pending: int, timeout: float) -> None:
    """Make the consumer unless it is there; raises ConnectionLost if the stream is not."""
    from nats.js import api
    from nats.js.errors import NotFoundError

    consumer = f"{server.describe()}: the consumer {mode.consumer!r}"
    stream = client.jetstream(timeout=timeout, **({"domain": mode.domain} if mode.domain else {}))
    try:
        try:
            found = await stream.consumer_info(mode.stream, mode.consumer)
            if found.config.deliver_subject:
                raise PermanentError(f"{consumer} pushes: it cannot be pulled from")
            if str(getattr(found.config.ack_policy, "value", found.config.ack_policy)) != "explicit":
                raise PermanentError(f"{consumer} has another ack policy than `explicit`: messages could be lost")
        except NotFoundError:
            subjects = list(mode.subjects)
            options = api.ConsumerConfig(
                durable_name=mode.consumer,
                deliver_policy=api.DeliverPolicy(mode.deliver),
                ack_policy=api.AckPolicy.EXPLICIT,
                ack_wait=mode.ack_wait,
                max_ack_pending=max_pending,
                filter_subject=subjects[0] if len(subjects) == 1 else None,
                filter_subjects=subjects if len(subjects) > 1 else None,
            )
            await stream.add_consumer(mode.stream, options)
    except NotFoundError as error:
        raise ConnectionLost(f"{server.describe()}: there is no stream {mode.stream!r}: {error.description}") from None
    except Exception as error:
        raise classify_error(error, server) from error


class _Prepared(NamedTuple):
    batch: Batch
    origin: Origin
    replies: list[str]
    refusal: Exception | None


class JetStreamReader:
    """Pulls messages so that there are always some, and acks those of settled deliveries."""

    def __init__(self, mode: JetStream, rows: int, linger: float, timeout: float, context: Context) -> None:
        self._mode, self._rows, self._timeout, self._context = mode, rows, timeout, context
        self._arrivals: Arrivals[Msg] = Arrivals(rows, linger)
        self._prepared: list[_Prepared] = []
        self._checkpoint: Checkpoint
        self._receipts: Receipts[str]
        self._client: Client
        self._subscription: Subscription
        self._inbox = ""
        self._asked_for = 0
        """How many messages are asked for and have not come."""
        self._alive_at = 0.0
        self._done = self._left = 0

    @asynccontextmanager
    async def pulling(self, client: Client) -> AsyncIterator[None]:
        """Ask for messages until the end, and give back what nobody has read then."""
        self._client, self._inbox = client, client.new_inbox()
        self._checkpoint = await self._context.checkpoint(commit=self._commit)
        self._receipts = Receipts.of(self._checkpoint)
        self._subscription = await client.subscribe(
            self._inbox, cb=self._take, pending_msgs_limit=0, pending_bytes_limit=0
        )
        self._alive_at = self._context.clock.monotonic()
        await self._ask()
        watching = asyncio.ensure_future(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(Exception):  # what is not given back comes again after `ack_wait`
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._give_back()

    def lost(self, error: Exception) -> None:
        """End reading with ``error``, once what has arrived is read."""
        self._arrivals.fail(error)

    def failed(self, error: Exception) -> None:
        """Note what went wrong on the connection."""
        self._context.log.warning("%s: nats: %s", self._context.name, error)

    def progress(self) -> Progress:
        """Return how many rows are read, and how many there are."""
        return Progress(self._done, self._done + self._left + len(self._arrivals), "rows")

    async def read(self) -> Delivery:
        """Wait for messages and return those that came."""
        if not self._prepared:
            self._prepared = self._prepare(await self._arrivals.take())
        batch, where, replies, refusal = self._prepared[0]
        await self._ask()
        delivery = await self._checkpoint.deliver(batch, self._receipts.next_number, where)
        self._receipts.add(replies)
        delivery.error = refusal
        self._done += batch.num_rows
        del self._prepared[0]
        return delivery

    def _prepare(self, messages: list[Msg]) -> list[_Prepared]:
        """Divide messages into those to be tried and those that were tried too often."""
        told = Told([message.reply for message in messages])
        self._left = told.pending
        most = self._mode.max_deliver
        if most is None or not pc.any(pc.greater(told.delivered, most)).as_py():
            return [self._batch(messages, told, None)]
        found = []
        for is_spent in (False, True):
            some = [m for m, n in zip(messages, told.delivered.to_pylist(), strict=True) if (n > most) is is_spent]
            if some:
                refusal = PermanentError(f"it was delivered more than {most} times") if is_spent else None
                found.append(self._batch(some, Told([message.reply for message in some]), refusal))
        return found

    def _batch(self, messages: list[Msg], told: Told, refusal: Exception | None) -> _Prepared:
        where = origin(messages, self._mode.stream, offset=told.numbers, timestamp=told.times)
        data = pa.array([message.data for message in messages], pa.binary())
        return _Prepared(payloads(data), where, [message.reply for message in messages], refusal)

    async def _take(self, message: Msg) -> None:
        self._alive_at = self._context.clock.monotonic()
        if message.reply:
            self._asked_for -= 1
            self._arrivals.put(message)
            return
        headers = message.headers or {}
        status, text = headers.get("Status", ""), headers.get("Description", "")
        if status == "100":
            return
        if status in ("404", "408") or (status == "409" and text.startswith(_OVER)):
            self._asked_for -= int(headers.get("Nats-Pending-Messages", self._asked_for))
            await self._ask()
        else:
            reason = f"{status} {text}".strip() or message.data.decode(errors="replace")[:200]
            self._arrivals.fail(ConnectionLost(f"nats: the consumer {self._mode.consumer!r} answered {reason}"))

    async def _ask(self) -> None:
        """Ask for more messages once half of those that may wait are read."""
        wanted = self._rows - max(self._asked_for, 0) - len(self._arrivals)
        if wanted * 2 < self._rows or not self._client.is_connected:
            return
        self._asked_for = max(self._asked_for, 0) + wanted
        request = {
            "batch": wanted,
            "expires": int(REQUEST_TTL * _SECOND),
            "idle_heartbeat": int(HEARTBEAT_INTERVAL * _SECOND),
            "max_bytes": max(MAX_REQUEST_SIZE, 2 * self._client.max_payload),
        }
        subject = f"{self._api}.CONSUMER.MSG.NEXT.{self._mode.stream}.{self._mode.consumer}"
        await self._publish([subject], json.dumps(request).encode(), self._inbox)

    @property
    def _api(self) -> str:
        return f"$JS.{self._mode.domain}.API" if self._mode.domain else "$JS.API"

    async def _publish(self, subjects: Iterable[str], payload: bytes, reply: str = "") -> None:
        with suppress(Exception):  # a connection that is lost says so itself
            for subject in subjects:
                await self._client.publish(subject, payload, reply)

    async def _watch(self) -> None:
        """Put off the redelivery of what is worked on, and notice a consumer that is gone without a word."""
        clock = self._context.clock
        last_progress = clock.monotonic()
        while True:
            await clock.sleep(min(HEARTBEAT_INTERVAL, self._mode.ack_wait / 3))
            now = clock.monotonic()
            if self._asked_for > 0 and now - self._alive_at > 3 * HEARTBEAT_INTERVAL:
                self._arrivals.fail(ConnectionLost(f"nats: nothing was heard for {now - self._alive_at:.0f} s"))
            if now - last_progress >= self._mode.ack_wait / 3:
                last_progress = now
                for some in chunks(list(self._collect_held()), 1000):
                    await self._publish(some, b"+WPI")
                    await asyncio.sleep(0)

    def _collect_held(self) -> Iterable[str]:
        """The receipts of all that came and is not acked."""
        yield from self._receipts
        for each in self._prepared:
            yield from each.replies
        for message in self._arrivals:
            yield message.reply

    async def _commit(self, number: Position) -> None:
        """Ack all deliveries up to one, and return once the server has heard it."""
        try:
            async with asyncio.timeout(self._timeout):
                for some in chunks(list(self._receipts.through(number)), 1000):
                    for reply in some:
                        await self._client.publish(reply)
                    await asyncio.sleep(0)
                await self._client.flush(self._timeout)  # type: ignore[arg-type]
        except Exception as error:
            raise ConnectionLost(f"nats: messages could not be acked: {str(error) or type(error).__name__}") from error
        self._receipts.forget(number)

    async def _give_back(self) -> None:
        """Let others have what is not settled: in its order, and later if the stream has failed with it."""
        if not self._client.is_connected:
            return
        await self._subscription.drain()  # type: ignore[no-untyped-call]  # or else they would come again at once, to us
        delay = self._mode.nak_delay if self._checkpoint.failure is not None else 0.0
        more = b" " + json.dumps({"delay": int(delay * _SECOND)}).encode() if delay else b""
        await self._publish(list(self._collect_held()), b"-NAK" + more)
        await self._client.flush(CLOSE_TIMEOUT)  # type: ignore[arg-type]
