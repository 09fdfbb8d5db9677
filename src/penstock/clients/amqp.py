"""Connect to a broker of AMQP 0-9-1, such as RabbitMQ, and classify its errors."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from ..duration import Duration
from ..errors import ConnectionLost, PenstockError, PermanentError
from ..extras import require
from ..options import Options
from .database import redact, redact_url
from .tls import Tls

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel, AbstractConnection

CLOSE_TIMEOUT = 2.0
_PORTS = {"amqp": 5672, "amqps": 5671}
_WAITS = ("exclusive use", "is down", "resource-locked")
"""What the broker refuses now and may grant later."""


def _check_url(url: SecretStr) -> SecretStr:
    require("aiormq", "AMQP")
    for each in url.get_secret_value().split(","):
        try:
            parts = urlsplit(each.strip())
            fits = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0 and not parts.query
        except ValueError:
            fits = False
        if not fits:
            raise ValueError("expected a URL like 'amqp://127.0.0.1:5672/vhost' (or amqps://), without a query")
    return url


Url = Annotated[SecretStr, AfterValidator(_check_url)]


class Server(Options):
    """Where a broker is, and how to connect to it."""

    url: Url
    """Where the broker is, for example `amqp://127.0.0.1:5672/vhost`; several, separated by commas, if it is a cluster.
    Without a virtual host it is `/`."""
    username: str | None = None
    """The user name, instead of the one in the URL."""
    password: SecretStr | None = None
    """The password, instead of the one in the URL."""
    tls: Tls | None = None
    """How to know the broker by TLS; used anyway with `amqps://`."""
    heartbeat: Duration = Field(10.0, ge=1, le=65_534)
    """How often the broker and this side show that they are there; after three without a sign it is gone."""
    timeout: Duration = Field(10.0, gt=0)
    """How long connecting and each answer of the broker may take."""

    def describe(self) -> str:
        """Return where it is, for messages."""
        return ",".join(redact_url(each) for each in self.urls)

    @property
    def urls(self) -> list[str]:
        """Each URL."""
        return [each.strip() for each in self.url.get_secret_value().split(",")]

    def redact(self, text: str) -> str:
        """Replace the secrets of the server in ``text``."""
        for url in self.urls:
            text = redact(text, url)
        return text.replace(self.password.get_secret_value(), "***") if self.password is not None else text

    def target(self, url: str, name: str) -> str:
        """Return the URL by which the client connects: with user, password and what else it reads there."""
        parts = urlsplit(url)
        scheme = "amqps" if self.tls is not None else parts.scheme
        user = self.username if self.username is not None else unquote(parts.username or "guest")
        secret = self.password.get_secret_value() if self.password else unquote(parts.password or "guest")
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        vhost = unquote(parts.path.removeprefix("/")) or "/"
        return (
            f"{scheme}://{quote(user, safe='')}:{quote(secret, safe='')}@{host}:{parts.port or _PORTS[scheme]}"
            f"/{quote(vhost, safe='')}?heartbeat={max(1, round(self.heartbeat))}&name={quote(name, safe='')}"
        )


class Exchange(Options):
    """An exchange that is to be there."""

    name: str = Field(min_length=1, max_length=255)
    """Its name."""
    type: str = Field("direct", min_length=1)
    """How it chooses queues: `direct`, `fanout`, `topic` or `headers`, or a type that a plugin of the broker adds."""
    durable: bool = True
    """Whether it is there after the broker was started again."""
    auto_delete: bool = False
    """Whether it is deleted when the last queue is unbound from it."""
    internal: bool = False
    """Whether only other exchanges may send to it."""
    arguments: Mapping[str, Any] = {}
    """What else the broker is told, for example `alternate-exchange`."""


class Queue(Options):
    """A queue that is to be there."""

    name: str = Field(min_length=1, max_length=255)
    """Its name."""
    type: str | None = Field(None, pattern="^(classic|quorum)$")
    """`classic` or `quorum`; by default what the broker makes by itself."""
    durable: bool = True
    """Whether it is there after the broker was started again, with its persistent messages."""
    exclusive: bool = False
    """Whether only this connection may use it; it is deleted with the connection."""
    auto_delete: bool = False
    """Whether it is deleted when its last reader is gone."""
    message_ttl: Duration | None = Field(None, ge=0)
    """How long a message waits before it is dropped, or becomes a dead letter."""
    max_length: int | None = Field(None, ge=1)
    """The most messages that wait."""
    delivery_limit: int | None = Field(None, ge=1)
    """How often a quorum queue delivers a message before it is dropped, or becomes a dead letter."""
    dead_letter_exchange: str | None = None
    """The exchange to which messages go that are rejected, that are too old or too many; empty for a queue by name."""
    dead_letter_routing_key: str | None = None
    """Their routing key; by default the one that they have."""
    arguments: Mapping[str, Any] = {}
    """What else the broker is told, for example `x-overflow`."""

    def all_arguments(self) -> dict[str, Any]:
        """Return what the broker is told of it."""
        named = {
            "x-queue-type": self.type,
            "x-message-ttl": None if self.message_ttl is None else round(self.message_ttl * 1000),
            "x-max-length": self.max_length,
            "x-delivery-limit": self.delivery_limit,
            "x-dead-letter-exchange": self.dead_letter_exchange,
            "x-dead-letter-routing-key": self.dead_letter_routing_key,
        }
        return {**{name: value for name, value in named.items() if value is not None}, **self.arguments}


class Binding(Options):
    """A queue that is to get messages of an exchange."""

    queue: str = Field(min_length=1)
    """The queue."""
    exchange: str = Field(min_length=1)
    """The exchange."""
    routing_key: str = Field("", max_length=255)
    """The routing key of the messages; with a `topic` exchange `*` stands for one word, `#` for any number."""
    arguments: Mapping[str, Any] = {}
    """What else the broker is told: with a `headers` exchange the headers of the messages."""


class Declared(Options):
    """What is made before the first message, unless it is there; one that is there otherwise is an error."""

    exchanges: Sequence[Exchange] = ()
    """Exchanges."""
    queues: Sequence[Queue] = ()
    """Queues."""
    bindings: Sequence[Binding] = ()
    """Which queues get messages of which exchanges."""

    async def declare(self, channel: AbstractChannel) -> None:
        """Make them unless they are there."""
        for exchange in self.exchanges:
            await channel.exchange_declare(
                exchange.name,
                exchange_type=exchange.type,
                durable=exchange.durable,
                auto_delete=exchange.auto_delete,
                internal=exchange.internal,
                arguments=dict(exchange.arguments),
            )
        for queue in self.queues:
            await channel.queue_declare(
                queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
                arguments=queue.all_arguments(),
            )
        for each in self.bindings:
            await channel.queue_bind(
                each.queue, each.exchange, routing_key=each.routing_key, arguments=dict(each.arguments)
            )


@asynccontextmanager
async def connected(server: Server, name: str, lost: Callable[[Exception], None]) -> AsyncIterator[AbstractConnection]:
    """Yield a connection, to the first of the servers that answers; ``lost`` is called once when it is over.

    It does not connect again by itself. Raises what connecting has failed with as an error of the engine.
    """
    context = await asyncio.to_thread(_prepare, server)
    connection, transport = await _connect(server, name, context)

    def end(closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        lost(classify_error(error or ConnectionError("the connection was closed"), server))

    connection.closing.add_done_callback(end)
    try:
        yield connection
    finally:
        with suppress(Exception):  # a broker that is gone must not keep us
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await connection.close()
        transport[0].abort()


def _prepare(server: Server) -> ssl.SSLContext | None:
    """Import the client, and read the files of TLS."""
    import aiormq  # noqa: F401

    from .amqp_properties import accept_all

    accept_all()
    # All that it logs it raises too, and here that becomes one line that says what follows.
    for each in ("aiormq", "aiormq.connection", "aiormq.channel"):
        logging.getLogger(each).setLevel(logging.CRITICAL)
    if server.tls is not None:
        return server.tls.context()
    return ssl.create_default_context() if any(url.startswith("amqps") for url in server.urls) else None


async def _connect(
    server: Server, name: str, context: ssl.SSLContext | None
) -> tuple[AbstractConnection, list[asyncio.WriteTransport]]:
    from aiormq.connection import Connection, TransportFactory

    class Transport(TransportFactory):
        """Opens the connection, and keeps what can end it at once."""

        async def create(self, url: Any, **_: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            secure = context if url.scheme == "amqps" else None
            reader, writer = await asyncio.open_connection(url.host, url.port, ssl=secure)
            opened.append(writer.transport)
            return reader, writer

    failure: Exception = ConnectionError("there is no server")
    for url in server.urls:
        opened: list[asyncio.WriteTransport] = []
        connection = Connection(server.target(url, name), transport_factory=Transport())
        try:
            async with asyncio.timeout(server.timeout):
                await connection.connect()
        except TimeoutError:
            failure = ConnectionLost(f"{redact_url(url)}: no answer within {server.timeout:g} s")
        except Exception as error:
            failure = classify_error(error, server)
        else:
            return connection, opened
        finally:
            if not connection.is_opened:
                for transport in opened:
                    transport.abort()
    raise failure


def classify_error(error: BaseException, server: Server) -> PenstockError:
    """Convert an error of this broker to one of the five kinds of errors, without its secrets."""
    from aiormq import exceptions

    if isinstance(error, PenstockError):
        return error
    if isinstance(error, TimeoutError) and not str(error):
        return ConnectionLost(f"{server.describe()}: no answer within {server.timeout:g} s")
    texts = " ".join(part for part in error.args if isinstance(part, str))  # without the numbers of errors
    text = server.redact(texts or str(error) or type(error).__name__)
    if "'Connection.OpenOk'" in text:  # the client does not tell what the broker said instead
        text = "the virtual host is not there, is down, or is not one of this user"
    message = f"{server.describe()}: {text}"
    final = (
        exceptions.AuthenticationError,
        exceptions.ProbableAuthenticationError,
        exceptions.ConnectionNotAllowed,
        exceptions.ChannelAccessRefused,
        exceptions.ChannelPreconditionFailed,
        ssl.SSLCertVerificationError,
    )
    if isinstance(error, final) and not any(word in text.lower() for word in _WAITS):
        return PermanentError(message)
    return ConnectionLost(message)
