"""All that is stored of a person as one ZIP file: the bodies as they were received, and the rows of all tables."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast

import msgspec
from sqlalchemy import Connection, RowMapping, Table, select, tuple_

from ....errors import PenstockError
from ....platform.database import Database
from ....platform.web.pieces import Pieces
from ..raw import Raw
from ..schema import ingests, metadata

log = logging.getLogger("penstock.health")
_PAGE_SIZE = 2000
_CHUNK_SIZE = 1_000_000
_encode = msgspec.json.Encoder(enc_hook=str).encode


def pack(database: Database, raw: Raw, user: int, now: datetime) -> Iterator[bytes]:
    """Yield the pieces of the file, in little memory.

    ``tables/<table>.jsonl`` has a JSON object for each row, ``raw/<id>`` a body as it came, with what was known of it
    in ``raw/<id>.json``. A body that is not kept any more is left out.
    """
    pipe = Pieces()
    with zipfile.ZipFile(cast(Any, pipe), "w", zipfile.ZIP_DEFLATED) as archive:
        for table in metadata.sorted_tables:
            if "user_id" in table.c:
                with archive.open(_entry(f"tables/{table.name}.jsonl", now), "w", force_zip64=True) as file:
                    for rows in _pages(database, table, user):
                        file.write(b"".join(_encode(dict(row)) + b"\n" for row in rows))
                        yield pipe.take()
        for rows in _pages(database, ingests, user):
            for row in rows:
                yield from _body(archive, pipe, raw, row, now)
    yield pipe.take()


def _body(archive: zipfile.ZipFile, pipe: Pieces, raw: Raw, row: RowMapping, now: datetime) -> Iterator[bytes]:
    about = {name: row[name] for name in ("id", "received_at", "content_type", "content_encoding", "form", "sha256")}
    try:
        body = raw.open(row["raw"])
    except PenstockError as error:
        log.warning("the body of ingest %s is not taken along: %s", row["id"], error)
        return
    with body, archive.open(_entry(f"raw/{row['id']}", now), "w", force_zip64=True) as file:
        while chunk := body.read(_CHUNK_SIZE):
            file.write(chunk)
            yield pipe.take()
    archive.writestr(_entry(f"raw/{row['id']}.json", now), _encode(about))


def _entry(name: str, now: datetime) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, now.timetuple()[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _pages(database: Database, table: Table, user: int) -> Iterator[list[RowMapping]]:
    """Yield the rows of a user in the order of their key, page by page."""
    keys = [column for column in table.primary_key if column.name != "user_id"]
    ordered = select(table).where(table.c.user_id == user).order_by(*keys).limit(_PAGE_SIZE)
    following = ordered
    while True:

        def read(connection: Connection, statement: Any = following) -> list[RowMapping]:
            return list(connection.execute(statement).mappings())

        rows = database.call(read)
        if rows:
            yield rows
        if len(rows) < _PAGE_SIZE or not keys:
            return
        following = ordered.where(tuple_(*keys) > tuple_(*(rows[-1][key.name] for key in keys)))
