"""Read changes of PostgreSQL tables as they are committed, by logical replication."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, SecretStr, model_validator

from ...clients.database import Postgres, Ssl
from ...clients.deadline import Deadline, connect
from ...component import Input, Reader
from ...context import Context
from ...duration import Duration
from ...runtime.threads import OwnThread, Workers

if TYPE_CHECKING:
    from .catalogue import Catalogue
    from .session import Session


class PostgresCdc(Input, type="postgres_cdc"):
    """Read changes of PostgreSQL tables as they are committed, by logical replication.

    At first the rows that are there are read, all tables as they are at one moment, then every change from that moment
    on: none is missed, none comes twice. The server needs `wal_level = logical`, the user `REPLICATION` and `SELECT`.
    Publication and slot are made unless they are there.

    **Rows.** Each change is a row: the row of the table after it, or before it in a delete. Beside its columns stand
    `op` (`c` created, `u` updated, `d` deleted, `t` truncated, `r` read at first), `ts_ms` (when it was committed),
    `source_db`, `source_table`, `before` and `source` as JSON text, as with the codec `debezium_json`. Where the table
    has a column of such a name, that of the change is called `__op` and so on. `source` has the `schema`, the
    transaction (`txId`), where it was committed (`lsn`) and the number of the row in it (`seq`): the last two tell
    every change from all others. `before` is the whole row where the table has `REPLICA IDENTITY FULL`; otherwise there
    is only the key, when a row is deleted or its key changes. Its values are as PostgreSQL prints them. `__meta_ext`
    has the `schema` and the `table`. A batch has rows of one table, in the order of the commits; a change of the
    table's columns takes effect with the next row.

    **What is not told.** A large value that an update left as it is is not sent by the server, unless the table has
    `REPLICA IDENTITY FULL`. Such a column is absent from the row, and so are the columns of a deleted row that are not
    in its key: `__meta_absent` and the list `absent` in `source` tell them from columns that are null.

    **Types.** Numbers, booleans, bytes, dates and times have their Arrow types, a `numeric(p, s)` is a decimal. What
    Arrow has no type for comes as text: numbers without a scale digit by digit, JSON, UUIDs, intervals in ISO 8601,
    arrays as JSON lists. A value that the type cannot hold, such as the date `infinity`, makes the column text in its
    batch.

    **The slot.** The server keeps its WAL until changes are confirmed, which is when their rows are durable, so a
    stream that is stopped for long fills the server's disk: /health shows how much is kept, and says so above
    `max_kept_wal`. Drop the slot (`SELECT pg_drop_replication_slot('penstock')`) of a stream that is given up. If the
    server has removed what was not read (`max_slot_wal_keep_size`), that is told: see `when_lost`.

    Rows that are there at first are copied to files in the folder of data, and delivered from there: it needs room for
    them, compressed. Large transactions are kept by the server until they are committed, and read in batches. With
    `checkpoint: output` each change is written exactly once, also after a crash.

    Example::

        type: postgres_cdc
        url: postgresql://replicator:not-a-secret@127.0.0.1:5432/shop
        slot: penstock
        tables: [public.orders, public.customers]
    """

    extra: ClassVar[str] = "postgres"

    url: SecretStr
    """The database: `postgresql://user:password@host:5432/database`."""
    ssl: Ssl | None = None
    """The encryption of the connection; by default what the URL says."""
    slot: str = Field("penstock", pattern=r"^[a-z0-9_]{1,63}$")
    """The replication slot, which only this stream may read."""
    publication: str = Field("penstock", min_length=1, max_length=63)
    """The publication, which says what is published; made for `tables` unless it is there."""
    tables: Sequence[str] = ()
    """The tables, as `schema.table`, that are published; by default those of the publication."""
    snapshot: Literal["initial", "never"] = "initial"
    """Whether the rows that are there at first are read, or only changes from then on."""
    when_lost: Literal["fail", "snapshot"] = "fail"
    """What is done when the slot is gone or invalidated: stop with an error, or make a new one and read all rows
    again."""
    temporary: bool = False
    """Whether the slot ends with the connection: then what changes while it is away is lost."""
    batch_size: int = Field(8192, ge=1)
    """The most rows in one batch."""
    linger: Duration = Field(0.02, ge=0, le=1)
    """How long a batch waits for more changes after the first."""
    status_interval: Duration = Field(10.0, gt=0)
    """How often the server is told what is durable while nothing moves; at most a third of its `wal_sender_timeout`."""
    max_kept_wal: int = Field(1 << 30, ge=0)
    """The bytes of WAL that the slot may keep at the server before that is shown as trouble."""
    timeout: Duration = Field(30.0, gt=0)
    """How long the server may be silent after it was asked for a sign of life."""

    @model_validator(mode="after")
    def _check(self) -> PostgresCdc:
        if self.codec is not None:
            raise ValueError("`codec` decodes payloads, and changes have columns: expected none")
        self.database()
        return self

    def database(self) -> Postgres:
        """Return the database."""
        return Postgres(uri=self.url, ssl=self.ssl)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Connect and look at the settings of the server; the slot is made when reading begins."""
        from .catalogue import Catalogue

        checkpoint = await context.checkpoint()
        has_worked = checkpoint.position is not None
        watching = Workers(f"{context.name}-slot", self.timeout)  # a look that hangs keeps nobody from stopping
        async with OwnThread(f"{context.name}-cdc") as thread:
            catalogue = Catalogue(self.database())
            session: Session | None = None
            try:
                session = live = await connect(thread, self._connect, catalogue, has_worked)
                from .reader import ChangesReader

                def interrupt() -> None:
                    live.interrupt()
                    catalogue.interrupt()

                async with Deadline(thread, interrupt, None, context.clock) as calls:
                    reader = ChangesReader(self, live, catalogue, calls, watching, checkpoint, context)
                    async with reader.reading():
                        yield reader
            finally:
                watching.close()
                await thread.run(_close, session, catalogue)

    def _connect(self, catalogue: Catalogue, has_worked: bool) -> Session:
        from . import reader  # noqa: F401 loaded here, since that reads files
        from .catalogue import classifying
        from .session import Session

        def connect() -> Session:
            catalogue.check_settings()
            return Session(self.database())

        return classifying(self.database(), connect, has_worked=has_worked)


def _close(session: Session | None, catalogue: Catalogue) -> None:
    catalogue.close()
    if session is not None:
        session.close()
