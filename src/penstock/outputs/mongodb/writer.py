"""Write documents in unordered bulks, and tell which of them are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...clients.mongodb import DUPLICATE_KEY, MAX_DOCUMENT_SIZE, PASSING, classify_error
from ...delivery import Batch
from ...errors import ConnectionLost, PermanentError, RowsRejected, TransientError
from .documents import documents, is_scalar, new_id

if TYPE_CHECKING:
    from . import Mongodb

OPERATIONS = ("insert", "upsert", "replace", "update", "delete")
MAX_OPERATIONS = 5000
"""Operations of one bulk."""


@dataclass
class _Operation:
    """What is done with one document, and the rows, by their index in the write, that it is made of."""

    kind: str
    document: dict[str, Any]
    where: dict[str, Any]
    rows: list[int]
    has_own_id: bool = True

    def plain(self) -> tuple[Any, ...]:
        """Return what is the same when the row is written once more."""
        document = {name: value for name, value in self.document.items() if name != "_id" or self.has_own_id}
        return self.kind, document, self.where


@dataclass
class _Bulk:
    """Operations on one collection, of which no two have the same key."""

    collection: str
    operations: list[_Operation] = field(default_factory=list)
    by_key: dict[Any, _Operation] = field(default_factory=dict)


class MongodbWriter:
    """A database that is written."""

    def __init__(self, config: Mongodb, database: Any) -> None:
        self._config, self._database = config, database
        self._indexed: set[str] = set()
        self._batches: Sequence[Batch] = ()
        self._bulks: list[_Bulk] = []
        """The bulks of a write that failed for a while: its repetition has the same ids."""
        self._kept: list[Any] = []
        """What was written of a write of which other rows were refused: the next is without those."""

    async def write(self, batches: Sequence[Batch]) -> None:
        """Write all rows; returns once the servers have confirmed them."""
        if not self._is_repeated(batches):
            refused: dict[int, str] = {}
            bulks = await asyncio.to_thread(lambda: list(self._made(batches, refused)))
            if refused:
                raise RowsRejected(refused, across=True)
            kept, self._kept = self._kept, []
            if kept and kept == _plain(bulks, {}):
                return
            self._batches, self._bulks = list(batches), bulks
        refused = {}
        for bulk in self._bulks:
            refused |= await self._write(bulk)
        bulks, self._bulks, self._batches = self._bulks, [], ()
        if refused:
            self._kept = _plain(bulks, refused)
            raise RowsRejected(refused, across=True)

    def _is_repeated(self, batches: Sequence[Batch]) -> bool:
        if len(batches) == len(self._batches) and self._bulks:
            return all(one is other for one, other in zip(batches, self._batches, strict=True))
        return False

    async def _write(self, bulk: _Bulk) -> dict[int, str]:
        """Write one bulk and return why rows were refused; raises TransientError, after which it is written again."""
        from pymongo.errors import BulkWriteError

        collection = self._database[bulk.collection]
        refused: dict[int, str] = {}
        try:
            await self._make_index(bulk.collection, collection)
            for start in range(0, len(bulk.operations), MAX_OPERATIONS):
                some = bulk.operations[start : start + MAX_OPERATIONS]
                try:
                    await collection.bulk_write([_request(one) for one in some], ordered=False)
                except BulkWriteError as error:
                    refused |= await self._refused(collection, some, error.details or {})
        except (PermanentError, TransientError, ConnectionLost):
            raise
        except Exception as error:
            known = classify_error(error, self._config.uri)
            # The client connects again by itself, and a new writer would not know the ids of the documents.
            raise TransientError(str(known)) if isinstance(known, ConnectionLost) else known from error
        return refused

    async def _refused(self, collection: Any, some: Sequence[_Operation], details: Mapping[str, Any]) -> dict[int, str]:
        refused: dict[int, str] = {}
        for error in details.get("writeErrors", ()):
            operation = some[error["index"]]
            message = str(error.get("errmsg", ""))[:300]
            if error.get("code") in PASSING:
                raise TransientError(f"mongodb: {message}")
            if error.get("code") == DUPLICATE_KEY and await self._is_there(collection, operation):
                continue
            refused.update(dict.fromkeys(operation.rows, f"mongodb: {message}"))
        for error in details.get("writeConcernErrors", ()):
            raise TransientError(f"mongodb: {str(error.get('errmsg', error))[:300]}")
        return refused

    async def _is_there(self, collection: Any, operation: _Operation) -> bool:
        """Tell whether the very document is there that was to be inserted: its first answer was lost."""
        if operation.kind != "insert":
            return False
        found = await collection.find_one({"_id": operation.document["_id"]}, allow_partial_results=False)
        return found is not None and _encode(found) == _encode(_decode(operation.document))

    async def _make_index(self, name: str, collection: Any) -> None:
        """Make the unique index on the key, once for each collection."""
        from pymongo.errors import OperationFailure

        key = self._config.key
        if not key or key == ["_id"] or not self._config.create or name in self._indexed:
            return
        try:
            await collection.create_index([(one, 1) for one in key], unique=True)
        except OperationFailure as error:
            if error.code not in {DUPLICATE_KEY, 85, 86}:
                raise
            reason = f"the collection {name!r} can have no unique index on {', '.join(key)}"
            raise PermanentError(f"{reason}; mend it, or set `create: false`: {str(error)[:200]}") from error
        self._indexed.add(name)

    def _made(self, batches: Sequence[Batch], refused: dict[int, str]) -> Iterator[_Bulk]:
        """Return bulks that do the same as all operations one after the other; enters why rows are refused."""
        open_bulks: dict[str, _Bulk] = {}
        for collection, operation in self._operations(batches, refused):
            bulk = open_bulks.setdefault(collection, _Bulk(collection))
            key = self._key(operation)
            earlier = bulk.by_key.get(key) if key is not None else None
            if earlier is not None and not _merge(earlier, operation):
                yield open_bulks.pop(collection)
                bulk = open_bulks[collection] = _Bulk(collection)
                earlier = None
            if earlier is None:
                bulk.operations.append(operation)
                if key is not None:
                    bulk.by_key[key] = operation
        yield from open_bulks.values()

    def _key(self, operation: _Operation) -> tuple[Any, ...] | None:
        """Return what tells the document apart; None for one that is only inserted, which meets no other."""
        if operation.kind == "insert" and self._config.operation.constant is not None:
            return None
        values = [operation.document.get(name) for name in self._config.key]
        return tuple((isinstance(value, bool), value) for value in values if is_scalar(value))  # True is not 1 to BSON

    def _operations(self, batches: Sequence[Batch], refused: dict[int, str]) -> Iterator[tuple[str, _Operation]]:
        config, start = self._config, 0
        for batch in batches:
            collections = config.collection.evaluate(batch).to_pylist()
            kinds = config.operation.evaluate(batch).to_pylist()
            rows = documents(batch, decimals_as_text=config.decimals == "text")
            for row, (collection, kind, document) in enumerate(zip(collections, kinds, rows, strict=True), start):
                operation = _Operation(kind, document, {}, [row])
                if (reason := self._why_not(collection, operation)) is None:
                    yield collection, operation
                else:
                    refused[row] = reason
            start += batch.num_rows

    def _why_not(self, collection: str | None, operation: _Operation) -> str | None:
        """Make the operation complete; return why that cannot be done."""
        kind, document, key = operation.kind, operation.document, self._config.key
        if not collection or "$" in collection or "\x00" in collection or collection.startswith("system."):
            return f"{(collection or '')[:80]!r} cannot be the name of a collection"
        if kind not in OPERATIONS:
            return f"{kind!r} is not an operation; expected one of {', '.join(OPERATIONS)}"
        if kind == "insert":
            operation.has_own_id = document.get("_id") is not None
            if not operation.has_own_id:
                operation.document = {**document, "_id": new_id()}
        else:
            operation.where = {name: document.get(name) for name in key}
            for name, value in operation.where.items():
                if not is_scalar(value):
                    return f"the key {name!r} is {'null' if value is None else 'no single value'}"
            if kind in ("upsert", "update"):
                for name in document:
                    if "." in name or name.startswith("$") or not name:
                        return f"the field {name[:80]!r} cannot be set by its name: use `insert` or `replace`"
        return _why_no_bson(operation.document)


def _merge(earlier: _Operation, later: _Operation) -> bool:
    """Do two operations on one document as one; returns False where that cannot be."""
    if earlier.kind != later.kind or later.kind == "insert":
        return False
    merged = {**earlier.document, **later.document} if later.kind in ("upsert", "update") else later.document
    if _why_no_bson(merged) is not None:
        return False
    earlier.document = merged
    earlier.rows += later.rows
    return True


def _request(operation: _Operation) -> Any:
    from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne

    where, document = operation.where, operation.document
    if operation.kind == "insert":
        return InsertOne(document)
    if operation.kind == "delete":
        return DeleteOne(where)
    if operation.kind == "replace":
        return ReplaceOne(where, document, upsert=True)
    changes = {name: value for name, value in document.items() if name != "_id"}
    is_upsert = operation.kind == "upsert"
    # Of a document that is nothing but its `_id` there is nothing to set.
    update = {"$set": changes} if changes else {"$setOnInsert": {"_id": document["_id"]}}
    return UpdateOne(where, update, upsert=is_upsert)


def _why_no_bson(document: Mapping[str, Any]) -> str | None:
    try:
        size = len(_encode(document))
    except Exception as error:  # bson raises errors of many kinds: what they have in common is this document
        return f"it cannot be a document: {str(error)[:200]}"
    return f"it has {size} bytes, more than a document may have" if size > MAX_DOCUMENT_SIZE else None


def _encode(document: Mapping[str, Any]) -> bytes:
    import bson

    return bson.encode(dict(document))


def _decode(document: Mapping[str, Any]) -> Mapping[str, Any]:
    import bson

    found: Mapping[str, Any] = bson.decode(_encode(document))
    return found


def _plain(bulks: Sequence[_Bulk], refused: Mapping[int, str]) -> list[Any]:
    """Return the operations that were not refused, as the write without the refused rows has them."""
    return [
        (bulk.collection, operation.plain())
        for bulk in bulks
        for operation in bulk.operations
        if not refused.keys() & operation.rows
    ]
