"""Commit rows and positions to a table, once each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from ...clients.database import TableChanged
from ...delivery import Batch, Position
from ...errors import ConfigError, ConnectionLost, PenstockError, PermanentError, RowsRejected, TransientError
from ...runtime.threads import Workers
from .columns import content_of, fit_rows, last_of_each_key, missing

if TYPE_CHECKING:
    from . import Iceberg

POSITION = "penstock.position."
"""Prefix of the properties of a table that are positions."""
MAX_SMALL_FILE_SIZE = 32 << 20
"""Bytes of the largest file that counts as small."""
_REFUSED = ("ValidationError", "ValidationException", "BadRequestError")


class IcebergWriter:
    """A table that is written; positions may be kept in it, in the commit of the rows."""

    def __init__(self, config: Iceberg, workers: Workers, seen: dict[str, str | None]) -> None:
        """``seen`` holds the positions as this run of the stream last saw them, over all of its connections."""
        self._config, self._workers, self._seen = config, workers, seen
        self._namespace, _, _ = config.table_name.rpartition(".")
        self._catalog: Any = None
        self._table: Any = None
        self._commits = 0

    async def connect(self) -> None:
        """Open the catalog; raises ConnectionLost if it does not answer."""
        await self._call(self._connect, opening=True)

    async def write(self, batches: Sequence[Batch]) -> None:
        """Write the rows in one commit."""
        await self._call(lambda: self._write(batches, {}))

    async def write_and_save(self, batches: Sequence[Batch], positions: Mapping[str, Position]) -> None:
        """Write the rows and save the positions in one commit."""
        await self._call(lambda: self._write(batches, _entries(positions)))

    async def save(self, positions: Mapping[str, Position]) -> None:
        """Save positions alone."""
        await self._call(lambda: self._write([], _entries(positions)))

    async def load(self, key: str) -> Position | None:
        """Return the position that was saved under ``key``."""
        text = await self._call(lambda: self._load(key))
        return None if text is None else msgspec.json.decode(text)

    async def _call(self, work: Any, *, opening: bool = False) -> Any:
        try:
            return await self._workers.call(work)
        except TimeoutError:
            self._table = None
            raise ConnectionLost(f"iceberg: no answer within {self._config.timeout:g} s (`timeout`)") from None
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._table = None
            raise self._classify(error, opening=opening) from error

    def _classify(self, error: Exception, *, opening: bool) -> PenstockError:
        if isinstance(error, PenstockError):
            return error
        text = f"iceberg: {' '.join(str(error).split())[:400] or type(error).__name__}"
        for secret in self._config.secrets():
            text = text.replace(secret, "***")
        if opening and isinstance(error, OSError) and (reason := _network_reason(error)) is not None:
            text = f"iceberg: cannot talk to the catalog: {reason}"
        if opening:
            return ConnectionLost(text)
        if isinstance(error, pa.ArrowException | TypeError) or type(error).__name__ in _REFUSED:
            return PermanentError(text)
        return TransientError(text)  # another has committed meanwhile, the catalog or the store is away

    def _connect(self) -> None:
        self._catalog = self._config.open_catalog()
        self._catalog.list_namespaces()

    def _found(self) -> Any:
        """Return the table as it is now; None if it is missing."""
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        try:
            if self._table is None:
                self._table = self._catalog.load_table(self._config.table_name)
            else:
                self._table.refresh()
        except (NoSuchTableError, NoSuchNamespaceError):
            self._table = None
        return self._table

    def _load(self, key: str) -> str | None:
        table = self._found()
        text = None if table is None else table.properties.get(POSITION + key)
        self._seen[key] = text
        return text

    def _write(self, batches: Sequence[Batch], entries: Mapping[str, str]) -> None:
        contents = [content_of(batch) for batch in batches]
        table = self._found()
        if table is not None and entries and self._is_saved(table, entries):
            self._seen.update(entries)
            return
        has_rows = any(content.num_rows for content in contents)
        if not has_rows and not entries:
            return
        table = self._evolved(table, contents)
        rows = self._rows(table, contents) if has_rows else None
        with table.transaction() as transaction:
            if entries:
                transaction.set_properties({POSITION + key: text for key, text in entries.items()})
            if rows is not None and self._config.key:
                transaction.upsert(rows, join_cols=self._config.key)
            elif rows is not None:
                transaction.append(rows)
        self._seen.update(entries)
        self._commits += 1
        if self._config.compact_after and self._commits % self._config.compact_after == 0:
            self._compact(table)

    def _is_saved(self, table: Any, entries: Mapping[str, str]) -> bool:
        """Tell whether a commit whose answer was lost has saved these positions, and so written their rows.

        Raises ConfigError if another process has moved one of them: it has written the rows that belong to it.
        """
        saved = {key: table.properties.get(POSITION + key) for key in entries}
        if saved == entries:
            return True
        for key, found in saved.items():
            if key in self._seen and found != self._seen[key]:
                raise ConfigError(
                    f"another process has moved the position {key!r}, or it is gone from the table: this one stops, so "
                    "that no row is written twice"
                )
        return False

    def _evolved(self, table: Any, contents: Sequence[Batch]) -> Any:
        """Return the table with a column for all that the rows have."""
        new: dict[str, pa.DataType] = {}
        known = {} if table is None else {field.name: field.type for field in table.schema().as_arrow()}
        for content in contents:
            names = content.schema.names
            if len(set(names)) < len(names):
                raise PermanentError("two columns have the same name")
            new = {**missing(content, known), **new}
        if table is None:
            return self._made(new)
        if new and self._config.create:
            with table.update_schema() as update:
                update.union_by_name(pa.schema(list(new.items())))
        elif new:
            raise PermanentError(f"the table has no column {next(iter(new))!r}: add it, or set `create: true`")
        return table

    def _made(self, new: Mapping[str, pa.DataType]) -> Any:
        name = self._config.table_name
        if not self._config.create:
            raise TableChanged(f"there is no table {name}: make it, or set `create: true`")
        self._catalog.create_namespace_if_not_exists(self._namespace)
        self._table = self._catalog.create_table_if_not_exists(name, schema=pa.schema(list(new.items())))
        return self._table

    def _rows(self, table: Any, contents: Sequence[Batch]) -> pa.Table:
        schema = table.schema().as_arrow()
        refused: dict[int, str] = {}
        parts, start = [], 0
        for content in contents:
            for key in self._config.key:
                self._check_key(content, key, start, refused)
            parts.append(fit_rows(content, schema, refused, start))
            start += content.num_rows
        if refused:
            raise RowsRejected(refused, across=True)
        rows = pa.concat_tables(parts)
        return last_of_each_key(rows, self._config.key) if self._config.key else rows

    def _check_key(self, content: Batch, key: str, start: int, refused: dict[int, str]) -> None:
        at = content.schema.get_field_index(key)
        nulls = range(content.num_rows) if at < 0 else _nulls(content.column(at))
        for row in nulls:
            refused.setdefault(start + row, f"key column {key} is null")

    def _compact(self, table: Any) -> None:
        """Write the small files as one, in one commit; rows that another changes meanwhile are left as they are."""
        from pyiceberg.exceptions import CommitFailedException
        from pyiceberg.io.pyarrow import ArrowScan, _dataframe_to_data_files

        table.refresh()
        tasks = [
            task
            for task in table.scan().plan_files()
            if task.file.file_size_in_bytes <= MAX_SMALL_FILE_SIZE and not task.delete_files
        ]
        if len(tasks) < 2:
            return
        scan = table.scan()
        reader = ArrowScan(table.metadata, table.io, scan.projection(), scan.row_filter)
        rows = reader.to_table(tasks)
        try:
            with table.transaction() as transaction, transaction.update_snapshot().overwrite() as change:
                for task in tasks:
                    change.delete_data_file(task.file)
                for file in _dataframe_to_data_files(transaction.table_metadata, rows, table.io):
                    change.append_data_file(file)
        except CommitFailedException:  # the next time will do
            self._table = None


def _network_reason(error: BaseException) -> str | None:
    """Return what the network said, which requests and urllib3 wrap in each other; None if it said nothing."""
    import ssl

    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLError | ConnectionError | TimeoutError) and not hasattr(found, "request"):
            return str(found) or type(found).__name__
        inner = [each for each in (getattr(found, "reason", None), *found.args) if isinstance(each, BaseException)]
        found = inner[0] if inner else found.__cause__ or found.__context__
    return None


def _nulls(values: pa.Array) -> list[int]:
    found: list[int] = pa.compute.indices_nonzero(values.is_null()).to_pylist()
    return found


def _entries(positions: Mapping[str, Position]) -> dict[str, str]:
    return {key: msgspec.json.encode(position).decode() for key, position in positions.items()}
