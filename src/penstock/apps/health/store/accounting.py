"""What became of each ingest: kept in the transaction that writes its points, and read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ..acceptance import OTHERS, Accepted, Counts, Outcome, Quarantined, counted
from ..schema import ingests, parts, quarantine
from .staging import Part

MAX_TYPES = 500
"""How many types an outcome counts by themselves."""
SHOWN = 100
"""How many of the quarantined points and of the warnings an outcome lists."""
_NOTHING: Mapping[str, Any] = {
    "parts": 0,
    "received": 0,
    "stored": 0,
    "updated": 0,
    "unchanged": 0,
    "quarantined": 0,
    "types": None,
    "warnings": None,
    "error": None,
    "duplicate": False,
    "completed_at": None,
}
"""An attempt of which nothing is stored yet."""
_NAMES = Counts.__struct_fields__


def announce(connection: Connection, accepted: Accepted) -> None:
    """Write down that ``accepted`` is durable and will be processed; what is known already stays as it is.

    Another ``attempt`` begins again with all counts.
    """
    row = {
        "id": accepted.id,
        "user_id": accepted.user,
        "key_id": accepted.key,
        "received_at": accepted.received_at,
        "state": "accepted",
        "attempt": accepted.attempt,
        "form": accepted.form,
        "content_type": accepted.content_type,
        "content_encoding": accepted.content_encoding,
        "bytes": accepted.bytes,
        "sha256": accepted.sha256,
        "raw": accepted.raw,
        "headers": msgspec.json.encode(accepted.headers).decode(),
        **_NOTHING,
    }
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(ingests).values(row)
    again = {"state": "accepted", "attempt": accepted.attempt, **_NOTHING}
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["id"], set_=again, where=ingests.c.attempt < statement.excluded.attempt
        )
    )


def committed(connection: Connection, part: Part) -> set[int]:
    """Return which parts of the same attempt are committed."""
    same = (parts.c.ingest_id == part.ingest, parts.c.attempt == part.attempt)
    return set(connection.scalars(select(parts.c.part).where(*same)))


def unfinished(connection: Connection, part: Part) -> str | None:
    """Return the greatest id of an earlier ingest of the user of which something is still to be stored."""
    still = (
        select(ingests.c.id).where(
            ingests.c.user_id == part.user, ingests.c.id < part.ingest, ingests.c.state != "processed"
        ),
        select(quarantine.c.ingest_id).where(
            quarantine.c.user_id == part.user,
            quarantine.c.ingest_id < part.ingest,
            quarantine.c.resolved_at.is_(None),
        ),
    )
    greatest = [connection.scalar(each.order_by(each.selected_columns[0].desc()).limit(1)) for each in still]
    return max((each for each in greatest if each is not None), default=None)


def record(
    connection: Connection, group: Sequence[Part], types: Mapping[str, Counts], warnings: list[Any], now: datetime
) -> bool:
    """Write down that the parts of ``group``, all of one attempt, are stored; return whether the attempt is complete.

    Parts of an attempt that is not the latest are written down, and counted nowhere.
    """
    first = group[0]
    connection.execute(
        insert(parts),
        [
            {
                "ingest_id": part.ingest,
                "attempt": part.attempt,
                "part": part.said.part,
                "last": part.said.last,
                "committed_at": now,
            }
            for part in group
        ],
    )
    announce(connection, first.said.accepted)
    row = connection.execute(select(ingests).where(ingests.c.id == first.ingest)).mappings().one()
    if row["attempt"] != first.attempt:
        return False
    merged = _types(row["types"])
    for name, counts in types.items():
        merged.setdefault(name if name in merged or len(merged) < MAX_TYPES else OTHERS, Counts()).add(counts)
    kept = [*(msgspec.json.decode(row["warnings"]) if row["warnings"] else []), *warnings][:SHOWN]
    total = counted(merged)
    said = [part.said for part in group]
    error = next((each.error for each in said if each.error is not None), None)
    values: dict[str, Any] = {
        "parts": row["parts"] + len(group),
        "headers": msgspec.json.encode(said[0].accepted.headers).decode(),
        "types": msgspec.json.encode({name: msgspec.structs.astuple(merged[name]) for name in sorted(merged)}).decode(),
        "warnings": msgspec.json.encode(kept).decode() if kept else None,
        "state": "processing",
        "error": error,
        "format": next((each.format for each in said if each.format), row["format"]),
        "canonical_sha256": next((each.canonical for each in said if each.canonical), row["canonical_sha256"]),
        **msgspec.structs.asdict(total),
    }
    complete = _is_complete(connection, first)
    if complete:
        values |= {"state": "failed" if error else "processed", "completed_at": now}
        values["duplicate"] = not (total.stored or total.updated) and _came_before(connection, first)
        _resolve(connection, first, now)
    connection.execute(update(ingests).where(ingests.c.id == first.ingest).values(values))
    return complete


def _is_complete(connection: Connection, part: Part) -> bool:
    same = (parts.c.ingest_id == part.ingest, parts.c.attempt == part.attempt)
    last = connection.scalar(select(parts.c.part).where(*same, parts.c.last))
    return last is not None and connection.scalar(select(func.count()).select_from(parts).where(*same)) == last + 1


def _came_before(connection: Connection, part: Part) -> bool:
    earlier = (
        ingests.c.user_id == part.user,
        ingests.c.sha256 == part.said.accepted.sha256,
        ingests.c.id < part.ingest,
    )
    return connection.scalar(select(ingests.c.id).where(*earlier).limit(1)) is not None


def _resolve(connection: Connection, part: Part, now: datetime) -> None:
    """What earlier attempts could not store is now stored, or in quarantine anew."""
    if part.attempt > 1:
        same = (quarantine.c.ingest_id == part.ingest, quarantine.c.attempt < part.attempt)
        connection.execute(update(quarantine).where(*same, quarantine.c.resolved_at.is_(None)).values(resolved_at=now))


def fail(connection: Connection, accepted: Accepted, error: str) -> None:
    """Write down that a part of an ingest cannot be stored; its raw body stays."""
    announce(connection, accepted)
    same = (ingests.c.id == accepted.id, ingests.c.attempt == accepted.attempt, ingests.c.state != "failed")
    connection.execute(update(ingests).where(*same).values(state="failed", error=error))


def quarantined(rows: pa.Table, part: Part, now: datetime) -> pa.RecordBatch:
    """Return rows of an export as the table of the quarantine has them."""
    count = len(rows)
    return pa.RecordBatch.from_pydict(
        {
            "user_id": pa.array([part.user] * count, pa.int64()),
            "ingest_id": pa.array([part.ingest] * count),
            "attempt": pa.array([part.attempt] * count, pa.int32()),
            "created_at": pa.array([now] * count, pa.timestamp("us", "UTC")),
            **{name: rows.column(name).combine_chunks() for name in ("type", "index", "path", "reason", "payload")},
        }
    )


def warnings_of(rows: pa.Table) -> list[dict[str, Any]]:
    """Return the first warnings of the rows: type, index, warning, message."""
    flagged = rows.select(["type", "index", "warnings"]).filter(pc.is_valid(rows.column("warnings"))).slice(0, SHOWN)
    return [
        {"type": row["type"], "index": row["index"], **warning}
        for row in flagged.to_pylist()
        for warning in msgspec.json.decode(row["warnings"])
    ][:SHOWN]


def outcome(connection: Connection, user: int, ingest: str) -> Outcome | None:
    """Return how far an ingest of ``user`` is; None if there is none of this id."""
    try:
        ingest = str(UUID(ingest))
    except ValueError:
        return None
    c = ingests.c
    row = connection.execute(select(ingests).where(c.id == ingest, c.user_id == user)).mappings().one_or_none()
    if row is None:
        return None
    q = quarantine.c
    open_ones = select(q.id, q.type, q.index, q.path, q.reason).where(
        q.ingest_id == ingest, q.attempt == row["attempt"]
    )
    listed = connection.execute(open_ones.order_by(q.id).limit(SHOWN)).mappings()
    return Outcome(
        id=row["id"],
        state=row["state"],
        counts=Counts(**{name: row[name] for name in _NAMES}),
        types=_types(row["types"]),
        quarantined=[Quarantined(**each) for each in listed],
        warnings=msgspec.json.decode(row["warnings"]) if row["warnings"] else [],
        error=row["error"],
        duplicate=row["duplicate"],
        received_at=row["received_at"],
        completed_at=row["completed_at"],
        bytes=row["bytes"],
        sha256=row["sha256"],
        attempt=row["attempt"],
        timezone=msgspec.json.decode(row["headers"]).get("timezone") if row["headers"] else None,
    )


def forget(connection: Connection, user: int | None) -> None:
    """Take back what became of the ingests: they are accepted, whichever attempt comes next begins anew."""
    mine = ingests.c.user_id == user if user is not None else ingests.c.user_id.is_not(None)
    connection.execute(delete(parts).where(parts.c.ingest_id.in_(select(ingests.c.id).where(mine))))
    connection.execute(update(ingests).where(mine).values(state="accepted", attempt=0, **_NOTHING))


def _types(text: str | None) -> dict[str, Counts]:
    found: Mapping[str, Iterable[int]] = msgspec.json.decode(text) if text else {}
    return {name: Counts(*numbers) for name, numbers in found.items()}
