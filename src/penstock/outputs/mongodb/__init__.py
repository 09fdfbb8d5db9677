"""Write rows to collections of MongoDB."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ...clients.mongodb import MongodbUri, open_client
from ...clients.tls import Tls
from ...component import Output, Writer
from ...context import Context
from ...duration import Duration
from ...sql.expression import Expr
from .writer import OPERATIONS, MongodbWriter


class Mongodb(Output, type="mongodb"):
    """Write rows to collections of MongoDB: insert, upsert, replace, update and delete.

    A write is one unordered bulk for each collection. Documents that the server refuses are refused one by one, with
    its reason, and hold up no others. Inserted documents get an `_id` if the row has none; one that is there already
    just as the row has it counts as written. So what is sent again after a lost answer doubles nothing, and with an
    `_id` or a `key` nothing is doubled after a restart either. Rows that were read again after a crash and are
    inserted without an `_id` are there twice.

    `upsert` sets the fields that the row has in the document with the same `key`, or makes one; `update` makes none;
    `replace` takes the whole document away; `delete` deletes it. Of several rows with one key the last wins. The key is
    made a unique index unless `create` is false or it is `_id`.

    Whole numbers, fractions, text, bytes, true and false, lists, structs and maps are what they are in BSON. Timestamps
    and dates are dates, which have milliseconds: what is finer is cut off. Times of day are text, and durations a
    number in their own unit. Decimals have up to 34 digits; a server that has no decimals takes them as text with
    `decimals: text`. A field that a row lacks is left out, a null is null. `__meta_*` columns are left out. Writes are
    confirmed by a majority of the servers unless the `uri` says another `w`.

    Example::

        type: mongodb
        uri: mongodb://127.0.0.1:27017
        database: sensors
        collection: readings
        operation: upsert
        key: [sensor, time]
    """

    extra: ClassVar[str] = "mongodb"

    uri: MongodbUri
    """Where the servers are: `mongodb://user:password@host:27017/?authSource=admin`, or `mongodb+srv://`."""
    database: str = Field(min_length=1, max_length=63, pattern=r'^[^/\\. "$*<>:|?\x00]+$')
    """The database."""
    collection: Expr
    """The collection, or an expression that gives it for each row."""
    operation: Expr = Expr("insert")
    """What is done with a row: `insert`, `upsert`, `replace`, `update` or `delete`, or an expression that says it."""
    key: list[str] = []
    """The columns that tell documents apart; all operations but `insert` need it."""
    create: bool = True
    """Make the unique index on the key."""
    decimals: Literal["decimal", "text"] = "decimal"
    """How decimals are kept."""
    tls: Tls | None = None
    """How to know the server by TLS; `certificate` is one file with the certificate and its key."""
    timeout: Duration = Field(30.0, ge=0.001)
    """How long connecting and each call may take."""

    @model_validator(mode="after")
    def _check(self) -> Mongodb:
        known = self.operation.constant
        if known is not None and known not in OPERATIONS:
            raise ValueError(f"`operation` is {known!r}; expected one of {', '.join(OPERATIONS)}")
        if known != "insert" and not self.key:
            raise ValueError("expected a `key`, the columns that tell documents apart")
        if self.collection.constant == "":
            raise ValueError("expected the name of a `collection`")
        if self.codec is not None:
            raise ValueError("`codec` is for payloads, and a document has fields")
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Connect; raises ConnectionLost if that fails."""
        async with open_client(self.uri, self.tls, self.timeout) as client:
            yield MongodbWriter(self, client[self.database])
