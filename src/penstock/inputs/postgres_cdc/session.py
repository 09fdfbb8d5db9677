"""A connection by which the server sends changes."""

from __future__ import annotations

import select
import time
from struct import Struct

import psycopg
from psycopg import pq

from ...clients.database import Postgres
from ..sql.source import quoted, text
from .catalogue import connect
from .protocol import Protocol
from .rows import EPOCH

_STATUS, _KEEPALIVE = Struct(">cQQQqB"), Struct(">cQqB")
_CHANGES = ord("w")


class Session:
    """A replication connection; used by one thread at a time."""

    def __init__(self, database: Postgres) -> None:
        self._connection = connect(database, replication="database")
        ((system, _, _, name),) = self._connection.execute("IDENTIFY_SYSTEM").fetchall()
        self.system: str = system
        """The system identifier of the server."""
        self.database: str = name
        """The name of the database."""
        ((timeout,),) = self._connection.execute(
            "SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout'"
        ).fetchall()
        self.sender_timeout: float = timeout / 1000
        """Seconds after which the server gives up a silent reader; 0 for never."""
        self.received = 0
        """Where in the WAL the last message was."""
        self.heard = time.monotonic()
        """When anything came."""
        self.is_asked = False
        """Whether the server has asked for an answer."""
        self.may_hold_more = False
        """Whether some of what has come is not taken yet."""
        self.fileno: int = self._connection.fileno()
        """The socket."""

    def interrupt(self) -> None:
        """Make the call fail that another thread waits for."""
        self._connection.is_interrupted = True

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def create_slot(self, name: str, *, is_temporary: bool, exports: bool) -> tuple[int, str | None]:
        """Make a slot; return where it begins, and the snapshot of that moment, which lasts until the next call."""
        kind = "TEMPORARY " if is_temporary else ""
        snapshot = "EXPORT_SNAPSHOT" if exports else "NOEXPORT_SNAPSHOT"
        statement = f"CREATE_REPLICATION_SLOT {quoted(name)} {kind}LOGICAL pgoutput {snapshot}"
        ((_, begin, exported, _),) = self._connection.execute(statement.encode()).fetchall()
        return parse_lsn(begin), exported

    def start(self, slot: str, publication: str, lsn: int) -> None:
        """Let the server send what was committed from ``lsn`` on."""
        statement = (
            f"START_REPLICATION SLOT {quoted(slot)} LOGICAL {lsn >> 32:X}/{lsn & 0xFFFFFFFF:X} "
            f"(proto_version '1', publication_names {text(quoted(publication))})"
        )
        self._connection.execute(statement.encode())
        self.received, self.heard = lsn, time.monotonic()

    def receive(self, protocol: Protocol, linger: float) -> None:
        """Take what has come, and what comes within ``linger`` seconds, until it is enough; raises when it is over."""
        connection = self._connection.pgconn
        deadline = time.monotonic() + linger
        while True:
            connection.consume_input()
            while not protocol.is_full and (message := self._next(connection)) is not None:
                if message[0] == _CHANGES:
                    protocol.feed(message)
                else:
                    self._take_keepalive(message, protocol)
            left = deadline - time.monotonic()
            self.may_hold_more = protocol.is_full
            if protocol.is_full or left <= 0 or not self._is_readable(left):
                return

    def _next(self, connection: pq.abc.PGconn) -> bytes | None:
        size, data = connection.get_copy_data(1)
        if size > 0:
            self.heard = time.monotonic()
            return bytes(data)
        if size == 0:
            return None
        result = connection.get_result()
        reason = result.error_message.decode(errors="replace").strip() if result is not None else ""
        raise psycopg.OperationalError(reason or "the server has ended the stream of changes")

    def _take_keepalive(self, message: bytes, protocol: Protocol) -> None:
        _, end, _, asks = _KEEPALIVE.unpack(message)
        self.received = max(self.received, end)
        self.is_asked = self.is_asked or bool(asks)
        protocol.pass_over(end)

    def _is_readable(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def report(self, confirmed: int, *, asks: bool) -> None:
        """Tell the server what is durable here; with ``asks`` it is to answer."""
        connection = self._connection.pgconn
        now = time.time_ns() // 1000 - EPOCH
        received = max(self.received, confirmed)
        connection.put_copy_data(_STATUS.pack(b"r", received, confirmed, confirmed, now, asks))
        connection.flush()
        self.is_asked = False


def parse_lsn(value: str) -> int:
    """Read a position of the WAL as PostgreSQL prints it."""
    high, _, low = value.partition("/")
    return int(high, 16) << 32 | int(low, 16)
