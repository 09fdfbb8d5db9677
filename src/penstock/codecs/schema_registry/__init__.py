"""Payloads whose schemas are in a schema registry: Avro, JSON and Protobuf in Confluent's framing."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property
from typing import ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from ...clients.http import Auth, check_url
from ...clients.schema_registry import SchemaRegistry as Registry
from ...component import Codec
from ...delivery import Batch, Decoder, Learning
from ...duration import Duration
from ...errors import ConfigError, PermanentError
from ..arrow import unite
from .formats import Format, make_format
from .framing import frame, split

MAX_FORMATS = 1000
"""How many formats are remembered that schemas were made to."""


class SchemaRegistry(Codec, type="schema_registry"):
    """Payloads whose schemas are in a schema registry: Avro, JSON and Protobuf in Confluent's framing.

    A payload begins with a zero byte and the number of its schema in four bytes, in Protobuf also with the place of
    its message in the schema; the schema is fetched once, with those that it refers to, and says what the payload is.
    Avro becomes columns as with `avro`, JSON as with `json`, Protobuf as with `protobuf`. Schemas of several numbers
    may be mixed: their rows have the columns of all.

    A number that the registry does not know refuses that row. A registry that does not answer, or that refuses the
    credentials, is waited for, and costs no row.

    Written, rows are of the latest schema of `subject`, or of `schema`, which is registered as a new version of it; one
    that is not compatible with those before it stops the stream.

    Example::

        type: schema_registry
        registry_url: http://127.0.0.1:8081
        auth: {type: basic, username: reader, password: "${REGISTRY_PASSWORD:-secret}"}
    """

    extra: ClassVar[str] = ""

    registry_url: str
    """Where the registry is."""
    auth: Auth | None = None
    """What it asks for: `{type: basic, username: u, password: p}` or `{type: bearer, token: t}`."""
    message_type: str | None = None
    """The full name of the only Protobuf message to read, or of the one to write; by default payloads say which."""
    subject: str | None = None
    """Under what the schema of the rows that are written is registered."""
    schema_: str | None = Field(None, alias="schema")
    """The schema of the rows that are written; by default the latest one of `subject`."""
    schema_type: Literal["avro", "json", "protobuf"] = "avro"
    """What `schema` is."""
    timeout: Duration = Field(10.0, gt=0)
    """How long the registry may take to answer."""

    @field_validator("registry_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        check_url(url)
        return url

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.schema_ is not None and self.subject is None:
            raise ValueError("`schema` is registered under a `subject`, which is missing")
        return self

    @cached_property
    def _registry(self) -> Registry:
        return Registry(self.registry_url, self.auth, self.timeout)

    @cached_property
    def _formats(self) -> dict[int, Format]:
        return {}

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        """Return a row for each payload; raises PermanentError for one that is not of its schema."""
        return _Decoder(self, None)(payloads)

    def decoder(self, columns: frozenset[str] | None = None) -> Decoder:
        """Return a decoder whose columns, where they are inferred, only ever grow."""
        return _Decoder(self, Codec.find("json")().decoder())

    def format(self, number: int) -> Format:
        """Return how payloads of a schema are read and written."""
        found = self._formats.get(number)
        if found is None:
            found = make_format(self._registry.schema(number), number)
            if len(self._formats) >= MAX_FORMATS:
                self._formats.clear()
            self._formats[number] = found
        return found

    def encode(self, batch: Batch) -> pa.BinaryArray:
        """Return a framed payload for each row; raises ConfigError where a schema for it is missing."""
        if self.subject is None:
            raise ConfigError("codec 'schema_registry' needs a `subject` to write rows", path="codec.subject")
        number = self._registry.latest(self.subject) if self.schema_ is None else self._own_schema
        prefix, payloads = self.format(number).write(batch, self.message_type)
        return frame(number, prefix, payloads)

    @cached_property
    def _own_schema(self) -> int:
        assert self.subject is not None
        assert self.schema_ is not None
        return self._registry.register(self.subject, self.schema_type.upper(), self.schema_)

    def check_lines(self) -> None:
        """Raise ValueError: a payload may hold any byte."""
        raise ValueError("payloads may hold newlines: use `framing: length_delimited` or `framing: whole`")


class _Decoder:
    def __init__(self, codec: SchemaRegistry, infer: Decoder | None) -> None:
        self._codec, self._infer = codec, infer

    def apart(self, destination: Hashable) -> Decoder:
        """Return the decoder for one destination, such as a topic."""
        inner = self._infer
        return _Decoder(self._codec, inner.apart(destination) if isinstance(inner, Learning) else inner)

    def __call__(self, payloads: pa.BinaryArray) -> Batch:
        if not len(payloads):
            return pa.RecordBatch.from_arrays([], names=[])
        numbers, bodies = split(payloads)
        if len(set(numbers)) == 1:
            return self._read(numbers[0], bodies)
        places: dict[int, list[int]] = {}
        for row, number in enumerate(numbers):
            places.setdefault(number, []).append(row)
        tables = []
        for number, rows in places.items():
            found = self._read(number, [bodies[row] for row in rows])
            if found.num_rows != len(rows):
                raise PermanentError("a payload holds several rows, which cannot be mixed with other schemas")
            tables.append(pa.Table.from_batches([found]))
        in_order = np.argsort(np.concatenate(list(places.values())), kind="stable")
        return unite(tables).take(pa.array(in_order))

    def _read(self, number: int, bodies: list[bytes]) -> Batch:
        payloads = pa.array(bodies, pa.binary())
        return self._codec.format(number).read(payloads, self._codec.message_type, self._infer)
