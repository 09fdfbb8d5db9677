"""Where reading begins: behind what was read, or with a slot that is made together with a snapshot."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from ...errors import ConfigError, PermanentError
from ..sql.source import text
from .catalogue import Catalogue, SlotState, connect
from .protocol import Place
from .session import Session
from .snapshot import Manifest, Spool, copy_tables

if TYPE_CHECKING:
    from . import PostgresCdc


class Beginning:
    """Finds where to begin, and makes the slot where it has to be made."""

    def __init__(
        self,
        config: PostgresCdc,
        session: Session,
        catalogue: Catalogue,
        spool: Spool,
        report_gap: Callable[[str], None],
    ) -> None:
        self._config, self._session, self._catalogue = config, session, catalogue
        self._spool, self._report_gap = spool, report_gap
        self._state: SlotState | None = None

    def find(self, place: Place | None) -> Place:
        """Return where to begin, given the place that was saved, and let the server send what comes from there on."""
        config = self._config
        self._catalogue.publish(config.publication, config.tables)
        self._state = None if config.temporary else self._existing_slot()
        found = self._go_on(place) if place is not None else self._start_anew()
        self._session.start(config.slot, config.publication, found.lsn)
        return found

    def _existing_slot(self) -> SlotState | None:
        state = self._catalogue.slot(self._config.slot)
        if state is not None and (state.plugin, state.database) != ("pgoutput", self._session.database):
            raise PermanentError(
                f"postgres: the slot {self._config.slot!r} is one of {state.plugin!r} in the database "
                f"{state.database!r}: expected one of 'pgoutput' in {self._session.database!r}"
            )
        return state

    def _go_on(self, place: Place) -> Place:
        slot, state = self._config.slot, self._state
        if place.system != self._session.system or place.slot != slot:
            raise ConfigError(
                f"postgres_cdc: what was read is of the slot {place.slot!r} of the server {place.system}, this is "
                f"{slot!r} of {self._session.system}: give the stream another `id` to begin anew"
            )
        if self._config.temporary:
            self._report_gap("the slot was temporary: what changed while nobody was connected is not known")
            return self._make()
        if state is None or state.status == "lost":
            return self._replace(place)
        if place.snapshot is None and state.confirmed > place.lsn:
            self._report_gap(f"another reader has moved the slot {slot!r} from {place.lsn} to {state.confirmed}")
            return msgspec.structs.replace(place, lsn=state.confirmed, commit=0, rows=0)
        return place

    def _replace(self, place: Place) -> Place:
        """Begin anew after the slot was lost, if that is wanted; raises PermanentError otherwise."""
        slot = self._config.slot
        happened = (
            f"the slot {slot!r} is gone"
            if self._state is None
            else f"the slot {slot!r} was invalidated: the server has removed WAL that it needs (max_slot_wal_keep_size)"
        )
        if self._config.when_lost == "fail":
            raise PermanentError(
                f"postgres: {happened}: what changed since {place.lsn} cannot be read any more; with "
                "`when_lost: snapshot` a new slot is made, and all rows are read again"
            )
        self._report_gap(f"{happened}; all rows are read again, and rows that were deleted meanwhile are not told")
        if self._state is not None:
            self._catalogue.drop_slot(slot)
        return self._make()

    def _start_anew(self) -> Place:
        slot, state, manifest = self._config.slot, self._state, self._spool.manifest()
        is_ours = manifest is not None and (manifest.system, manifest.slot) == (self._session.system, slot)
        if state is None:
            return self._make()
        if is_ours and manifest is not None and manifest.lsn and state.status != "lost":
            return self._place(manifest.lsn, [0, 0])
        if self._config.snapshot == "never" and state.status != "lost":
            return self._place(state.confirmed, None)
        if not is_ours:
            raise PermanentError(
                f"postgres: the slot {slot!r} is there, and this stream has read nothing of it: expected another "
                f"`slot`, `snapshot: never` to go on where the slot is, or "
                f"SELECT pg_drop_replication_slot({text(slot)})"
            )
        self._catalogue.drop_slot(slot)
        return self._make()

    def _make(self) -> Place:
        """Make the slot and, unless none is wanted, read the snapshot of the same moment into files."""
        config, session = self._config, self._session
        exports = config.snapshot == "initial"
        marker = Manifest(system=session.system, slot=config.slot)
        self._spool.begin(marker)
        with closing(connect(config.database())) as guard:  # what rewrites a table would empty it in the snapshot
            tables = self._catalogue.published(config.publication)
            if exports and tables:
                guard.execute("BEGIN")
                locked = ", ".join(table.quoted for table in tables)
                guard.execute(f"LOCK TABLE {locked} IN ACCESS SHARE MODE".encode())
            lsn, snapshot = session.create_slot(config.slot, is_temporary=config.temporary, exports=exports)
            if snapshot is None:
                self._spool.remove()
                return self._place(lsn, None)
            copied = copy_tables(self._spool, self._catalogue, snapshot, tables, config.batch_size)
        if not copied:
            self._spool.remove()
            return self._place(lsn, None)
        self._spool.finish(msgspec.structs.replace(marker, lsn=lsn, tables=copied))
        return self._place(lsn, [0, 0])

    def _place(self, lsn: int, snapshot: list[int] | None) -> Place:
        return Place(system=self._session.system, slot=self._config.slot, lsn=lsn, snapshot=snapshot)
