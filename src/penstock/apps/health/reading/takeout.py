"""All that is stored of a person as one ZIP file: the bodies as they were received, and the rows of all tables."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, cast

import msgspec
from sqlalchemy import Table

from ....errors import PenstockError
from ....platform.database import Database
from ....platform.web.paging import Question, Window
from ....platform.web.pieces import Pieces
from ..raw import Raw
from ..schema import ingests, metadata, points
from .points import every

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
                        file.write(b"".join(_encode(row) + b"\n" for row in rows))
                        yield pipe.take()
        for rows in _pages(database, ingests, user):
            for row in rows:
                yield from _body(archive, pipe, raw, row, now)
    yield pipe.take()


def _body(archive: zipfile.ZipFile, pipe: Pieces, raw: Raw, row: Mapping[str, Any], now: datetime) -> Iterator[bytes]:
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


def _pages(database: Database, table: Table, user: int) -> Iterator[list[Mapping[str, Any]]]:
    """Yield the rows of a user in the order of their key, page by page."""
    if table is points:
        for metric in database.call(lambda connection: every(connection, user)):
            if metric.table is points:
                yield from _pages_in_order(database, metric.question(Window()))
        return
    keys = [column.name for column in table.primary_key if column.name != "user_id"]
    yield from _pages_in_order(database, Question(table, [table.c.user_id == user], keys))


def _pages_in_order(database: Database, question: Question) -> Iterator[list[Mapping[str, Any]]]:
    columns = list(question.table.c)
    names, after = [column.name for column in columns], None
    while True:
        rows, after = database.call(partial(question.page, columns=columns, limit=_PAGE_SIZE, after=after))
        if rows:
            yield [dict(zip(names, row, strict=False)) for row in rows]
        if after is None:
            return
