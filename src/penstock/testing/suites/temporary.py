"""Conformance tests for temporary tables: what is found for keys, what is not, and what follows from an outage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from ...component import Found, Lookup, Temporary
from ...errors import ConnectionLost, TransientError
from ..contexts import lend_context
from .suite import Suite, needs


class TemporarySuite(Suite):
    """Give a ``component`` fixture: a table that has exactly the rows of ``rows``."""

    rows: Mapping[str, Sequence[Mapping[str, Any]]] = {
        "a": [{"id": "a", "site": "north", "level": 1}],
        "b": [{"id": "b", "site": None, "level": 2}],
        "ünï 'q\"": [{"id": "ünï 'q\"", "site": "south", "level": 3}],
    }
    """The rows of the table, by the text of their key."""
    knows_columns = True
    """Its columns are known though nothing was found."""
    can_break = False
    """It can be made unreachable: give ``break_it`` and ``mend_it``."""

    @pytest.fixture
    def component(self) -> Temporary:
        """Return the table under test."""
        raise NotImplementedError("the suite needs a `component` fixture that returns the temporary table")

    async def break_it(self, component: Temporary) -> None:
        """Make the table unreachable."""
        raise NotImplementedError("a table that `can_break` needs `break_it`")

    async def mend_it(self, component: Temporary) -> None:
        """Make the table reachable again."""
        raise NotImplementedError("a table that `can_break` needs `mend_it`")

    @asynccontextmanager
    async def opened(self, component: Temporary, directory: Path) -> AsyncIterator[Lookup]:
        """Open the table."""
        async with lend_context(directory / "penstock-data") as context:
            opening = component.open(context)
            lookup = await self.soon(opening.__aenter__())
            try:
                yield lookup
            finally:
                await self.soon(opening.__aexit__(None, None, None))

    async def found(self, lookup: Lookup, keys: Sequence[str]) -> Found:
        """Look keys up."""
        return await self.soon(lookup.find(pa.array(keys, pa.string())))

    def by_key(self, found: Found, keys: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Return what was found, by the key that it was found for."""
        each: dict[str, list[dict[str, Any]]] = {key: [] for key in keys}
        for at, row in zip(found.keys.to_pylist(), found.rows.to_pylist(), strict=True):
            each[keys[at]].append(row)
        return each

    async def test_opens_closes_and_opens_again(self, component: Temporary, tmp_path: Path) -> None:
        for _ in range(3):
            async with self.opened(component, tmp_path):
                pass

    def test_it_is_a_frozen_value(self, component: Temporary) -> None:
        assert component.model_copy(deep=True) == component
        with pytest.raises(ValidationError):
            component.name = "another"  # type: ignore[misc]

    async def test_every_key_has_its_rows(self, component: Temporary, tmp_path: Path) -> None:
        keys = list(self.rows)
        async with self.opened(component, tmp_path) as lookup:
            for asked in (keys, keys[::-1], *([key] for key in keys)):
                found = self.by_key(await self.found(lookup, asked), asked)
                assert found == {key: [dict(row) for row in self.rows[key]] for key in asked}

    async def test_a_key_that_nobody_has_gives_nothing(self, component: Temporary, tmp_path: Path) -> None:
        known = next(iter(self.rows))
        strange = ["nobody", "", "%", "'; DROP TABLE x --", "9" * 40, "\\", "NULL"]
        asked = [*strange[:3], known, *strange[3:]]
        async with self.opened(component, tmp_path) as lookup:
            assert self.by_key(await self.found(lookup, strange), strange) == {key: [] for key in strange}
            found = self.by_key(await self.found(lookup, asked), asked)
            assert found == {**{key: [] for key in asked}, known: [dict(row) for row in self.rows[known]]}

    async def test_no_key_gives_nothing(self, component: Temporary, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as lookup:
            found = await self.found(lookup, [])
            assert (found.rows.num_rows, len(found.keys)) == (0, 0)

    @needs("knows_columns")
    async def test_its_columns_are_known_though_nothing_is_found(self, component: Temporary, tmp_path: Path) -> None:
        keys = list(self.rows)
        async with self.opened(component, tmp_path) as lookup:
            nothing = await self.found(lookup, ["nobody"])
            assert nothing.rows.schema.names == (await self.found(lookup, keys)).rows.schema.names

    async def test_many_keys_are_looked_up_at_once(self, component: Temporary, tmp_path: Path) -> None:
        keys = [*(f"nobody-{number}" for number in range(2_500)), *self.rows]
        async with self.opened(component, tmp_path) as lookup:
            found = await self.found(lookup, keys)
        assert found.rows.num_rows == sum(map(len, self.rows.values()))
        assert set(found.keys.to_pylist()) == set(range(2_500, len(keys)))

    @needs("can_break")
    async def test_an_outage_is_told_and_passes(self, component: Temporary, tmp_path: Path) -> None:
        keys = list(self.rows)
        async with self.opened(component, tmp_path) as lookup:
            await self.found(lookup, keys)
            await self.break_it(component)
            with pytest.raises((ConnectionLost, TransientError)):
                await self.found(lookup, keys)
            await self.mend_it(component)
        async with self.opened(component, tmp_path) as lookup:
            assert (await self.found(lookup, keys)).rows.num_rows
