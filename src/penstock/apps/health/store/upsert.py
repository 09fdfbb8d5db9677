"""Rows into their table: each is new, the same as before, newer or older than what is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from sqlalchemy import text

from .. import compact
from ..acceptance import Counts
from ..rows import POINT
from ..schema import PARTITIONED, TRACKED, stored
from .compacting import compacted
from .counting import Counting
from .merging import merge_columns
from .session import Session, moment
from .staging import CONFIRMED, NEWER, OLDER, SAME, Staged, counted_by_type, keys_of, staged, values_of
from .upkeep import Upkeep

_RECEIVED = ("original", "original_unit", "form_id", "sent")


@dataclass(frozen=True)
class Load:
    """What holds for all rows of a load: parts of one ingest, in one transaction."""

    user: int
    ingest: str
    attempt: int
    now: datetime
    latest: datetime
    """The last time that the ingest can speak of."""
    open: str | None
    """The greatest id of an earlier ingest of the user of which something is still to be stored."""


@dataclass
class Tally:
    """What became of the rows, by type."""

    types: dict[str, Counts] = field(default_factory=dict)
    flagged: dict[str, int] = field(default_factory=dict)
    """How many of them have warnings, by type."""

    def add(self, type: str, **counts: int) -> None:
        """Count rows of a type."""
        own = self.types.setdefault(type, Counts())
        for name, count in counts.items():
            setattr(own, name, getattr(own, name) + count)


class Upsert:
    """The statements for the table of one kind of record, run in a session."""

    def __init__(self, record: str, session: Session) -> None:
        self._record, self._session = record, session
        self._table = stored(record, postgres=session.is_postgres)
        self._compact = self._table is compact.points
        self._keys, self._values = keys_of(self._table), values_of(self._table)
        self._stage, self._known = f"stage_{record}", f"known_{record}"
        self._told = f"told_{record}" if self._compact else self._stage
        self._used = False
        self._upkeep = Upkeep(record, session)
        self._counting = Counting(session.connection) if record == POINT else None
        self._make_stage()

    def _make_stage(self) -> None:
        """Make the temporary tables of this session."""
        run, columns = self._session.connection.exec_driver_sql, ", ".join([*self._keys, *self._values])
        quarter = f", {'NULL::timestamptz' if self._session.is_postgres else 'NULL'} AS quarter"
        ours = f", false AS doubtful{quarter}"
        source = f"SELECT 0 AS number, '' AS type, {columns}{ours} FROM {self._table.name}"  # noqa: S608
        if self._session.is_postgres:
            run(f"CREATE TEMP TABLE {self._stage} ON COMMIT DELETE ROWS AS {source} WITH NO DATA")
            run(f"CREATE TEMP TABLE {self._known} (number integer, type text, verdict smallint) ON COMMIT DELETE ROWS")
            if self._compact:
                more = ", p.number, p.type, p.doubtful, p.quarter"
                run(f"CREATE TEMP VIEW {self._told} AS {compact.select_points(self._stage, staged=True, more=more)}")
        else:
            run(f"CREATE TEMP TABLE {self._stage} AS {source} LIMIT 0")
            run(f"CREATE TEMP TABLE {self._known} (number INTEGER PRIMARY KEY, type TEXT, verdict INTEGER)")

    def begin(self) -> None:
        """Begin with a transaction: PostgreSQL has emptied the temporary tables."""
        self._used = not self._session.is_postgres

    def apply(self, rows: pa.Table, load: Load, tally: Tally) -> None:
        """Write the rows, keep what they replace, and count."""
        stage = staged(self._record, rows, load.latest)
        bound = self._bound(stage, load)
        self._load(stage.rows, load)
        verdicts = self._classify(stage, load, bound, tally)
        self._keep_history(load, bound, verdicts)
        if OLDER in verdicts:
            self._complete(bound)
        if verdicts - {SAME, OLDER}:
            self._insert(bound, verdicts)
        if verdicts - {SAME}:
            self._upkeep.update_metrics(bound, changed=verdicts != {None})
            if self._counting is not None:
                in_part, recounted = self._counting.update(load.user, self._told, stage.metrics, stage.void)
                self._upkeep.update_quarters(bound, recounted, in_part=in_part, changed=verdicts != {None})
        if stage.replaced.num_rows:
            self._keep_replaced(stage.replaced, load, bound, tally)

    def _load(self, rows: pa.RecordBatch, load: Load) -> None:
        if self._used:
            for table in (self._stage, self._known):
                self._run(f"TRUNCATE {table}" if self._session.is_postgres else f"DELETE FROM {table}")  # noqa: S608
        self._used = True
        rows = compacted(self._session.connection, load.user, rows) if self._compact else rows
        self._session.load(self._stage, rows)

    def _bound(self, stage: Staged, load: Load) -> dict[str, Any]:
        postgres = self._session.is_postgres
        quarter = timedelta(minutes=15)
        return {
            "user": load.user,
            "ingest": load.ingest,
            "open": load.open,
            "now": moment(load.now, postgres=postgres),
            "low": moment(stage.low, postgres=postgres),
            "high": moment(stage.high, postgres=postgres),
            "wide_low": moment(stage.low - quarter, postgres=postgres),
            "wide_high": moment(stage.high + quarter, postgres=postgres),
        }

    def _run(self, sql: str, bound: dict[str, Any] | None = None) -> Any:
        names = {name: value for name, value in (bound or {}).items() if f":{name}" in sql}
        return self._session.connection.execute(text(sql), names)

    @property
    def _match(self) -> str:
        """The condition that ``t``, the table, has the key of ``s``, the stage; the range names the partitions."""
        same = [f"t.{key} = s.{key}" for key in self._keys]
        mine = [] if self._compact else ["t.user_id = :user"]
        ranged = ["t.time >= :low AND t.time <= :high"] if self._table in PARTITIONED else []
        return " AND ".join([*mine, *same, *ranged])

    def _classify(self, stage: Staged, load: Load, bound: dict[str, Any], tally: Tally) -> set[int | None]:
        """Say of each row what becomes of it, and count."""
        alike = "IS NOT DISTINCT FROM" if self._session.is_postgres else "IS"
        compared = [] if self._compact else ["original_unit"]
        if load.attempt > 1:  # It may be read better than the last time.
            compared += [name for name in self._values if name not in _RECEIVED]
        merged = self._merged("t", "s")
        received = _same_forms(merged) if self._compact else "t.original = s.original"
        same = received + "".join(f" AND t.{name} {alike} {merged[name]}" for name in compared)
        between = f"CASE WHEN t.ingest_id < :open THEN {CONFIRMED} ELSE {SAME} END" if load.open else str(SAME)
        self._run(
            f"INSERT INTO {self._known} SELECT s.number, s.type, (SELECT CASE WHEN {same} THEN {between} "  # noqa: S608
            f"WHEN t.ingest_id > :ingest THEN {OLDER} ELSE {NEWER} END "
            f"FROM {self._table.name} t WHERE {self._match}) FROM {self._stage} s",
            bound,
        )
        found = self._run(f"SELECT type, verdict, count(*) FROM {self._known} GROUP BY type, verdict").all()  # noqa: S608
        for type, verdict, count in found:
            tally.add(type, **{"stored" if verdict is None else "updated" if verdict == NEWER else "unchanged": count})
        for type, count in stage.repeated.items():
            tally.add(type, unchanged=count)
        return {verdict for _, verdict, _ in found}

    def _insert(self, bound: dict[str, Any], verdicts: set[int | None]) -> None:
        columns = [*self._keys, *self._values]
        values = {name: f"s.{name}" for name in columns} | {"ingest_id": self._uuid(":ingest")}
        if not self._compact:
            values |= {"user_id": ":user", "updated_at": ":now"}
        sql = (
            f"INSERT INTO {self._table.name} ({', '.join(values)}) "  # noqa: S608
            f"SELECT {', '.join(values.values())} FROM {self._stage} s"
        )
        if verdicts != {None}:
            sql += (
                f" JOIN {self._known} k ON k.number = s.number "
                f"WHERE k.verdict IS NULL OR k.verdict IN ({CONFIRMED}, {NEWER})"
            )
        if verdicts & {CONFIRMED, NEWER}:
            merged = self._merged(self._table.name, "excluded")
            given = {name: f"excluded.{name}" for name in ("ingest_id", "updated_at") if name in values}
            changed = ", ".join(f"{name} = {value}" for name, value in (merged | given).items())
            if self._record == POINT:
                changed += ", counted = NULL"
            key = ", ".join(column.name for column in self._table.primary_key)
            sql += f" ON CONFLICT ({key}) DO UPDATE SET {changed}"
        self._run(sql, bound)

    def _merged(self, old: str, new: str) -> dict[str, str]:
        return merge_columns(self._values, old, new, postgres=self._session.is_postgres)

    def _complete(self, bound: dict[str, Any]) -> None:
        """Let rows that come too late say what the newer ones leave out."""
        said = self._merged("s", "t").items()
        gained = {name: value.replace("t.", f"{self._table.name}.") for name, value in said if value != f"t.{name}"}
        if gained:
            assigned = ", ".join(f"{name} = {value}" for name, value in gained.items())
            match = self._match.replace("t.", f"{self._table.name}.")
            self._run(
                f"UPDATE {self._table.name} SET {assigned} FROM {self._stage} s JOIN {self._known} k "  # noqa: S608
                f"ON k.number = s.number WHERE k.verdict = {OLDER} AND {match}",
                bound,
            )

    def _keep_history(self, load: Load, bound: dict[str, Any], verdicts: set[int | None]) -> None:
        """Keep what newer rows replace, and rows that come too late to be in the table."""
        there = f"{self._told} s JOIN {self._known} k ON k.number = s.number CROSS JOIN "
        if self._session.is_postgres:  # One look into the index for each row, whatever it guesses of temporary tables.
            table = TRACKED[self._record].name
            there += f"LATERAL (SELECT * FROM {table} t WHERE {self._match} OFFSET 0) t WHERE true"  # noqa: S608
        else:
            there += f"{self._table.name} t WHERE {self._match}"
        if NEWER in verdicts:
            known = self._is_known(load, "t.original", "t.ingest_id")
            news = f"k.verdict = {NEWER} AND (t.ingest_id <> :ingest OR NOT {known})"
            self._remember("t", "t.ingest_id", self._uuid(":ingest"), f"{there} AND {news}", bound)
        if OLDER in verdicts:
            known = self._is_known(load, "s.original", self._uuid(":ingest"))
            news = f"k.verdict = {OLDER} AND NOT {known}"
            self._remember("s", self._uuid(":ingest"), "t.ingest_id", f"{there} AND {news}", bound)

    def _keep_replaced(self, rows: pa.RecordBatch, load: Load, bound: dict[str, Any], tally: Tally) -> None:
        """Keep what a later row of the same load and the same key replaces: rare, since ordinals tell such apart."""
        for type, count in counted_by_type(rows).items():
            tally.add(type, updated=count)
        self._load(rows, load)
        ingest = self._uuid(":ingest")
        known = self._is_known(load, "s.original", ingest)
        self._remember("s", ingest, ingest, f"{self._told} s WHERE NOT {known}", bound)

    def _remember(self, old: str, ingest: str, replaced_by: str, rows: str, bound: dict[str, Any]) -> None:
        value = "NULL, NULL" if self._record == "route" else f"{old}.value, {old}.unit"
        self._run(
            "INSERT INTO health_history (user_id, record, metric, time, key, original, original_unit, value, unit, "  # noqa: S608
            "ingest_id, replaced_by, replaced_at) "
            f"SELECT :user, '{self._record}', {self._metric}, s.time, {self._key}, "
            f"{old}.original, {old}.original_unit, {value}, {ingest}, {replaced_by}, :now FROM {rows} "
            "ORDER BY s.number",
            bound,
        )

    def _is_known(self, load: Load, original: str, ingest: str) -> str:
        """The condition that the history has this value already: an ingest may be processed again.

        The first time it is not looked for: many values of one key would be compared with each other.
        """
        if load.attempt == 1:
            return "false"
        return (
            f"EXISTS (SELECT 1 FROM health_history h WHERE h.user_id = :user AND h.metric = {self._metric} "  # noqa: S608
            f"AND h.time = s.time AND h.record = '{self._record}' AND h.ingest_id = {ingest} "
            f"AND h.original = {original} AND h.key = {self._key})"
        )

    def _uuid(self, value: str) -> str:
        return f"CAST({value} AS uuid)" if self._session.is_postgres else value

    @property
    def _metric(self) -> str:
        return {"route": "'route'", "workout": "s.name"}.get(self._record, "s.metric")

    @property
    def _key(self) -> str:
        """The other columns of the key, as JSON."""
        keys = keys_of(TRACKED[self._record])
        pairs = ", ".join(f"'{key}', s.{key}" for key in keys if key not in ("metric", "time"))
        return f"CAST(jsonb_build_object({pairs}) AS text)" if self._session.is_postgres else f"json_object({pairs})"


def _same_forms(merged: dict[str, str]) -> str:
    """Return the condition that the same was received: the same text, or the same form with the same numbers."""
    numbers = [("coalesce(t.sent, t.value)", f"coalesce(s.sent, {merged['value']})")]
    numbers += [(f"t.{name}", merged[name]) for name in ("minimum", "maximum")]
    alike = " AND ".join(f"{old} IS NOT DISTINCT FROM {new}" for old, new in numbers)
    received = f"t.original = s.original OR (t.original IS NULL AND s.original IS NULL AND {alike})"
    told = (f"(SELECT ROW(w.original, w.original_unit) FROM ({query}) w)" for query in _told_rows())  # noqa: S608
    return f"CASE WHEN t.form_id = s.form_id THEN {received} ELSE {' IS NOT DISTINCT FROM '.join(told)} END"


def _told_rows() -> tuple[str, str]:
    """The row of the table and that of the stage as points: an older version may have chosen another form."""
    return compact.select_points("(SELECT t.*)"), compact.select_points("(SELECT s.*)", staged=True)
