"""Run one SQL query over all the files."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec
import pyarrow as pa
from datafusion import SessionConfig, SessionContext, SQLOptions
from datafusion.object_store import AmazonS3, GoogleCloud, MicrosoftAzure

from ...checkpoint import Checkpoint
from ...clients.object_store import S3, Az, Gs, Http
from ...delivery import Delivery
from ...errors import ConfigError, EndOfInput, PermanentError
from ...metadata import Origin
from ...sql.arithmetic import with_exact_integers
from ...sql.overflow import Arithmetic
from ...sql.query import shorten_error
from .listing import Found

_EVERY_ROW = 1 << 40
_COMPRESSIONS = {"gzip": "GZIP", "zstd": "ZSTD", "bz2": "BZ2", "xz": "XZ"}
_ANY = " UNION ALL BY NAME "


@dataclass(frozen=True)
class Tables:
    """The files a query is about, and how they are read."""

    files: Sequence[Found]
    formats: Sequence[str]
    store: S3 | Gs | Az | Http | None
    """The object store they are in."""
    csv: Mapping[str, Any]
    """The options of CSV."""


def start(tables: Tables, query: str, table: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Return the batches of a query over the files; raises ConfigError for a query that cannot be planned."""
    # one partition: the rows come in the same order each time, which resuming relies on
    config = SessionConfig().with_target_partitions(1).with_batch_size(batch_rows)
    context = SessionContext(config)
    names = []
    prefix = _connect(context, tables.store)
    for number, (found, format) in enumerate(zip(tables.files, tables.formats, strict=True)):
        names.append(f"{table}__{number}" if len(tables.files) > 1 else table)
        try:
            _register(context, names[-1], prefix + found.path, found.compression, format, tables.csv)
        except Exception as error:  # DataFusion raises bare exceptions
            raise PermanentError(f"{found.path} cannot be read: {error}") from error
    options = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)
    try:
        if len(names) > 1:
            union = _ANY.join(f'SELECT * FROM "{name}"' for name in names)  # noqa: S608
            context.register_view(table, context.sql(union))
        checked = Arithmetic(with_exact_integers(query), table, options).checked(context, pa.schema([]))
        frame = context.sql_with_options(checked.register(context), options)
    except Exception as error:  # planning raises ValueError, execution bare exceptions
        raise ConfigError(f"the query cannot be planned: {error}", path="query") from error
    names = list(checked.names or frame.schema().names)
    return (batch.to_pyarrow().rename_columns(names) for batch in frame.execute_stream())


def _connect(context: SessionContext, store: S3 | Gs | Az | Http | None) -> str:
    """Make the store known to the query and return what the addresses of its objects begin with."""
    if store is None:
        return ""
    if isinstance(store, S3):
        secret = store.secret_access_key.get_secret_value() if store.secret_access_key else None
        allow_http = store.allows_http()
        live: Any = AmazonS3(
            store.bucket_name, store.region, store.access_key_id, secret, None, store.endpoint, allow_http
        )
        scheme, host = "s3://", store.bucket_name
    elif isinstance(store, Gs) and store.service_account_key is None and store.url is None:
        live = GoogleCloud(store.bucket_name, store.service_account_path)
        scheme, host = "gs://", store.bucket_name
    elif isinstance(store, Az) and store.url is None and store.endpoint is None:
        key = store.access_key.get_secret_value() if store.access_key else None
        live = MicrosoftAzure(store.container_name, store.account, key)
        scheme, host = "az://", store.container_name
    else:
        raise ConfigError(f"a query over this kind of {store.type} store is not supported", path="query")
    context.register_object_store(scheme, live, host)
    return f"{scheme}{host}/"


def _register(
    context: SessionContext, name: str, path: str, compression: str | None, format: str, csv: Mapping[str, Any]
) -> None:
    extension = path[path.rfind(".") :] if "." in path.rpartition("/")[2] else ""
    packed = _COMPRESSIONS.get(compression or "")
    if format == "parquet":
        context.register_parquet(name, path, file_extension=extension)
    elif format == "avro":
        context.register_avro(name, path, file_extension=extension)
    elif format == "arrow":
        context.register_arrow(name, path, file_extension=extension)
    elif format == "csv":
        context.register_csv(
            name,
            path,
            file_extension=extension,
            schema_infer_max_records=_EVERY_ROW,
            file_compression_type=packed,
            **csv,
        )
    else:
        context.register_json(
            name,
            path,
            file_extension=extension,
            schema_infer_max_records=_EVERY_ROW,
            file_compression_type=packed,
        )


class _Position(msgspec.Struct, forbid_unknown_fields=True):
    """How much of a result was delivered."""

    files: str
    rows: int = 0
    ended: bool = False


class QueryReader:
    """Streams the result of a query; resumes by skipping the rows already delivered, if the files are the same."""

    def __init__(self, batches: Iterator[pa.RecordBatch], checkpoint: Checkpoint, version: str) -> None:
        self._batches, self._checkpoint, self._version = batches, checkpoint, version
        position = checkpoint.position_as(_Position)
        same = position is not None and position.files == version
        self._skip = position.rows if position is not None and same else 0
        self._ended = position is not None and same and position.ended
        self._rows = 0
        self._reading: asyncio.Task[pa.RecordBatch | None] | None = None

    async def read(self) -> Delivery:
        """Wait for the next batch of the result; raises EndOfInput behind the last one."""
        while not self._ended:
            batch = await self._next()
            if batch is None:
                self._reading = None
                self._ended = True
                await self._checkpoint.lend(self._position(ended=True)).release(None)
                break
            rest = batch.slice(min(max(0, self._skip - self._rows), batch.num_rows))
            first = self._rows + batch.num_rows - rest.num_rows
            if not rest.num_rows:
                self._reading, self._rows = None, self._rows + batch.num_rows
                continue
            position = {**self._position(), "rows": self._rows + batch.num_rows}
            delivery = await self._checkpoint.deliver(rest, position, Origin("file", offset=first))
            self._reading, self._rows = None, self._rows + batch.num_rows
            return delivery
        raise EndOfInput

    def _position(self, *, ended: bool = False) -> dict[str, Any]:
        return {"files": self._version, "rows": self._rows, **({"ended": True} if ended else {})}

    async def _next(self) -> pa.RecordBatch | None:
        """Wait for the next batch; cancelling this leaves it to the next call."""
        if self._reading is None:
            self._reading = asyncio.create_task(asyncio.to_thread(self._pull))
        await asyncio.wait({self._reading})
        try:
            return self._reading.result()
        except BaseException:
            self._reading = None
            raise

    def _pull(self) -> pa.RecordBatch | None:
        try:
            return next(self._batches, None)
        except Exception as error:  # DataFusion raises bare exceptions
            self._batches = itertools.chain()
            raise PermanentError(f"the query failed: {shorten_error(error)}") from error

    async def close(self) -> None:
        """Wait for the reading thread."""
        if self._reading is not None:
            await asyncio.wait({self._reading})
            self._reading.exception()


def version_of(files: Sequence[Found], query: str) -> str:
    """Return what changes when any of the files or the query does."""
    text = "\n".join([query, *(f"{found.path} {found.version}" for found in files)])
    return blake2b(text.encode(), digest_size=12).hexdigest()
