"""Store parts of exports: points, and what became of each of them, in one transaction."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import SecretStr, field_validator
from sqlalchemy import Connection

from ....clients.database import Duckdb, from_url
from ....component import Output, Writer
from ....context import Context
from ....delivery import Batch
from ....errors import PermanentError, RowsRejected
from ....platform.database import Database
from ....platform.outcomes import Outcomes
from ....runtime.threads import OwnThread
from .. import metrics
from ..acceptance import Counts, Outcome, outcomes_of
from ..rows import QUARANTINED
from ..schema import PARTITIONED, TRACKED, stored
from . import accounting, doubt, identity, partitions
from .migrations import migrate
from .recounting import count_older
from .session import Session, lock
from .staging import Part, counted_by_type, part_of
from .upsert import Load, Tally, Upsert


class Health(Output, type="health"):
    """Store parts of health exports in SQLite or PostgreSQL, and account for every point of them.

    Each batch is one part of an export. All parts of a call are one transaction, together with what became of each
    point: stored, updated, unchanged, or quarantined with its reason. A part that is stored already is skipped, so that
    a part which comes again after a crash is neither doubled nor counted twice. Of two values of the same point the one
    of the later ingest stays, whichever is written first; the other goes to the history.

    The tables are made, and brought up to date, when it is opened. PostgreSQL needs PostGIS.

    Example::

        type: health
        url: sqlite:///penstock-data/penstock.db
    """

    url: SecretStr
    """The database: `sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://...`."""

    schema_name: str | None = None
    """The schema of PostgreSQL that the tables are in; it is made if it is missing."""

    @field_validator("url")
    @classmethod
    def _check(cls, url: SecretStr) -> SecretStr:
        if isinstance(from_url(url.get_secret_value()), Duckdb):
            raise ValueError("expected a url that begins with sqlite:/// or postgresql://")
        return url

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Bring the tables up to date and connect."""
        database = Database.of(self.url.get_secret_value(), schema=self.schema_name)
        async with OwnThread(f"{context.name}-health") as thread:
            waiting = outcomes_of(context)
            store = await thread.run(_connect, database, waiting)
            try:
                yield _Writer(store, thread, waiting)
            finally:
                await thread.run(_close, store, context)


def _connect(database: Database, waiting: Outcomes[Outcome]) -> Store:
    try:
        migrate(database)
        count_older(database)
        return Store(Session(database), waiting)
    except Exception as error:
        raise database.classify_error(error) from error
    finally:
        database.close()  # the pool, which the session does not use


def _close(store: Store, context: Context) -> None:
    """A connection that is lost cannot be closed in good order; everything committed is there all the same."""
    try:
        store.close()
    except Exception as error:
        context.log.debug("%s: closing: %s", context.name, error)


class _Writer:
    def __init__(self, store: Store, thread: OwnThread, waiting: Outcomes[Outcome]) -> None:
        self._store, self._thread, self._waiting = store, thread, waiting

    async def write(self, batches: Sequence[Batch]) -> None:
        """Store the parts in one transaction, then tell who waits for ingests that are now complete.

        A part that cannot be stored at all is rejected as a whole: halves of it would be no parts.
        """
        settled: list[Outcome] = []
        try:
            await self._thread.run(self._store.write, batches, settled)
        except PermanentError as error:
            if len(batches) > 1:
                raise
            raise RowsRejected(dict.fromkeys(range(batches[0].num_rows), str(error))) from error
        finally:
            for outcome in settled:
                self._waiting.settle(outcome.id, outcome)


class Store:
    """The tables, as parts are written to them: by one thread, one call at a time."""

    def __init__(self, session: Session, waiting: Outcomes[Outcome] | None = None) -> None:
        self._session, self._waiting = session, waiting
        self._partitions = partitions.Partitions()
        with session.transaction():
            self._upserts = {record: Upsert(record, session) for record in TRACKED}

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def write(self, batches: Sequence[Batch], settled: list[Outcome]) -> None:
        """Store the parts, and put what became of ingests that are complete into ``settled``.

        Raises PenstockError, and nothing of the call is stored.
        """
        parts = [part_of(batch) for batch in batches]
        if self._session.is_postgres:
            self._make_partitions(parts)
        complete: list[Outcome] = []
        tallies: list[Tally] = []
        started = time.perf_counter()
        try:
            with self._session.transaction() as connection:
                lock(connection, (part.user for part in parts))
                self._write(connection, parts, complete, tallies)
        except PermanentError as error:
            if len(parts) == 1:
                metrics.lost({name: Counts(received=count) for name, count in counted_by_type(parts[0].rows).items()})
            if len({part.ingest for part in parts}) == 1:
                settled += self._failed(parts[0], error)
            raise
        settled += complete
        for tally in tallies:
            metrics.part(tally.types, time.perf_counter() - started, tally.flagged)

    def _make_partitions(self, parts: Sequence[Part]) -> None:
        for record in TRACKED:
            table = stored(record, postgres=True)
            if table not in PARTITIONED:
                continue
            times = [
                part.rows.filter(pc.equal(part.rows.column("record"), record)).column("time").drop_null()
                for part in parts
            ]
            wanted = self._partitions.missing(table, partitions.months(times))
            if wanted:
                self._partitions.make(self._session, table, wanted)

    def _write(
        self, connection: Connection, parts: Sequence[Part], complete: list[Outcome], tallies: list[Tally]
    ) -> None:
        now = datetime.now(UTC)
        for upsert in self._upserts.values():
            upsert.begin()
        for _, group in groupby(parts, key=lambda part: (part.ingest, part.attempt)):
            whole = list(group)
            done = accounting.committed(connection, whole[0])
            new = {part.said.part: part for part in whole if part.said.part not in done}
            if new:
                tallies.append(self._store(connection, list(new.values()), now))
            outcome = accounting.outcome(connection, whole[0].user, whole[0].ingest)
            if outcome is not None and outcome.state in ("processed", "failed"):
                complete.append(outcome)

    def _store(self, connection: Connection, group: Sequence[Part], now: datetime) -> Tally:
        """Store parts of one ingest as if they were one, and return what became of their points."""
        first = group[0]
        latest = doubt.latest(first.said.accepted)
        rows = doubt.flag(pa.Table.from_batches([part.rows for part in group]), latest)
        rows = identity.unify(connection, first.user, rows)
        load = Load(first.user, first.ingest, first.attempt, now, latest, self._open(connection, first))
        tally = Tally(flagged=counted_by_type(rows.filter(pc.is_valid(rows.column("warnings")))))
        for name, count in counted_by_type(rows).items():
            tally.add(name, received=count)
        for record, upsert in self._upserts.items():
            own = rows.filter(pc.equal(rows.column("record"), record))
            if len(own):
                upsert.apply(own, load, tally)
        refused = rows.filter(pc.equal(rows.column("record"), QUARANTINED))
        if len(refused):
            self._session.load("health_quarantine", accounting.quarantined(refused, first, now))
            for name, count in counted_by_type(refused).items():
                tally.add(name, quarantined=count)
        _check(group, tally.types)
        accounting.record(connection, group, tally.types, accounting.warnings_of(rows), now)
        return tally

    def _open(self, connection: Connection, part: Part) -> str | None:
        """Return the greatest id of an earlier ingest of the user that is not stored, known to the tables or not."""
        known = accounting.unfinished(connection, part)
        underway = self._waiting.before(part.user, part.ingest) if self._waiting is not None else None
        return max((each for each in (known, underway) if each is not None), default=None)

    def _failed(self, part: Part, error: PermanentError) -> list[Outcome]:
        """Write down that a part cannot be stored. What is told is its error, whatever comes of writing it down."""
        try:
            with self._session.transaction() as connection:
                accounting.fail(connection, part.said.accepted, str(error))
                outcome = accounting.outcome(connection, part.user, part.ingest)
        except Exception as another:
            error.add_note(f"and it could not be written down: {another}")
            return []
        return [outcome] if outcome is not None else []


def _check(group: Sequence[Part], types: dict[str, Counts]) -> None:
    """Raise PermanentError unless every point that was received is accounted for."""
    for name, counts in types.items():
        if counts.received != counts.stored + counts.updated + counts.unchanged + counts.quarantined:
            named = ", ".join(str(part) for part in group)
            raise PermanentError(f"health: {named}: the points of {name!r} are not all accounted for: {counts}")
