"""What every output promises: once a write has returned, the rows are there, and only once where it has a key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from pydantic import ValidationError

from ...component import Output, TransactionalWriter, Writer
from ...delivery import Batch
from ...errors import PenstockError, PermanentError, RowsRejected
from ...metadata import PREFIX, Origin, attach
from .. import batches
from ..batches import ARROW_TYPES, of_type, plain, rows_of
from ..contexts import lend_context
from .suite import Suite, needs


class OutputSuite(Suite):
    """Give a ``component`` fixture: an output onto something empty; and ``read_back``."""

    readable = True
    """What it wrote can be read back."""
    readable_while_open = True
    """It can be read back while the writer is still open."""
    ordered = True
    """Rows are read back in the order in which they were written."""
    any_schema = True
    """It takes batches of any columns; otherwise give ``sample``."""
    keyed = False
    """A repeated write of the same rows changes nothing (the key being ``id``)."""
    transactional = False
    """Its writer keeps positions beside the rows."""
    refuses = True
    """It refuses some batches: those of ``refused``."""
    rejects_rows = False
    """It can tell which rows of a batch it refuses; give ``with_bad_row``."""
    refused_types: ClassVar[frozenset[str]] = frozenset()
    """Names of ``ARROW_TYPES`` that it refuses with PermanentError."""

    @pytest.fixture
    def component(self) -> Output:
        """Return the output under test, onto something empty."""
        raise NotImplementedError("the suite needs a `component` fixture that returns the output")

    async def read_back(self, component: Output) -> Sequence[dict[str, Any]]:
        """Return all rows that the output has written, as dictionaries; none if nothing was."""
        raise NotImplementedError("the suite needs `read_back`")

    def sample(self, start: int, rows: int) -> Batch:
        """Return rows ``start`` and on of a table that never ends, with a column ``id``."""
        return batches.sample(start, rows)

    def written(self, batch: Batch) -> list[dict[str, Any]]:
        """Return the rows of a batch as ``read_back`` should give them."""
        return rows_of(batch)

    def with_bad_row(self) -> tuple[Batch, set[int]]:
        """Return a batch of some good rows and some that the output refuses, and the indexes of those."""
        raise NotImplementedError("an output with `rejects_rows` needs `with_bad_row`")

    def refused(self) -> Batch:
        """Return a batch that fits no row of ``sample``: writing it after those raises PermanentError."""
        rows = self.sample(100, 2)
        at = rows.schema.get_field_index("id")
        return rows.set_column(at, "id", pa.array(["not", "numbers"]))

    @asynccontextmanager
    async def opened(self, component: Output, directory: Path) -> AsyncIterator[Writer]:
        """Open the output."""
        async with lend_context(directory / "penstock-data") as context:
            opening = component.open(context)
            writer = await self.soon(opening.__aenter__())
            try:
                yield writer
            finally:
                await self.soon(opening.__aexit__(None, None, None))

    async def assert_written(self, component: Output, expected: list[dict[str, Any]]) -> None:
        """Raise AssertionError unless exactly these rows are read back."""
        found = [plain(row) for row in await self.soon(self.read_back(component))]
        wanted = [plain(row) for row in expected]
        if not self.ordered:
            found, wanted = sorted(found, key=repr), sorted(wanted, key=repr)
        assert found == wanted

    async def test_opens_closes_and_opens_again(self, component: Output, tmp_path: Path) -> None:
        for _ in range(3):
            async with self.opened(component, tmp_path):
                pass

    def test_it_is_a_frozen_value(self, component: Output) -> None:
        assert component.model_copy(deep=True) == component
        with pytest.raises(ValidationError):
            component.name = "another"  # type: ignore[misc]

    async def test_writing_nothing_writes_nothing(self, component: Output, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as writer:
            await self.soon(writer.write([]))
            await self.soon(writer.write([self.sample(0, 0)]))
            await self.soon(writer.write([self.sample(0, 0), self.sample(0, 0)]))
        if self.readable:
            await self.assert_written(component, [])

    @needs("readable")
    async def test_what_is_written_is_read_back(self, component: Output, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as writer:
            await self.soon(writer.write([self.sample(0, 3)]))
            await self.soon(writer.write([self.sample(3, 2)]))
        await self.assert_written(component, self.written(self.sample(0, 5)))

    @needs("readable", "readable_while_open")
    async def test_it_is_durable_on_return(self, component: Output, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as writer:
            await self.soon(writer.write([self.sample(0, 3)]))
            await self.assert_written(component, self.written(self.sample(0, 3)))
            await self.soon(writer.write([self.sample(3, 1)]))
            await self.assert_written(component, self.written(self.sample(0, 4)))

    @needs("readable")
    async def test_several_batches_are_one_write(self, component: Output, tmp_path: Path) -> None:
        several = [self.sample(0, 2), self.sample(2, 0), self.sample(2, 1), self.sample(3, 4)]
        async with self.opened(component, tmp_path) as writer:
            await self.soon(writer.write(several))
        await self.assert_written(component, self.written(self.sample(0, 7)))

    @needs("readable")
    async def test_goes_on_after_it_is_opened_again(self, component: Output, tmp_path: Path) -> None:
        for start in (0, 3):
            async with self.opened(component, tmp_path) as writer:
                await self.soon(writer.write([self.sample(start, 3)]))
        await self.assert_written(component, self.written(self.sample(0, 6)))

    @needs("readable")
    async def test_a_slice_is_written_without_the_rest(self, component: Output, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as writer:
            await self.soon(writer.write([self.sample(0, 10).slice(3, 4)]))
        await self.assert_written(component, self.written(self.sample(3, 4)))

    @needs("readable")
    async def test_many_rows_are_all_written(self, component: Output, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as writer:
            await self.soon(writer.write([self.sample(0, 3_000), self.sample(3_000, 2_000)]))
        assert len(await self.soon(self.read_back(component))) == 5_000

    @needs("readable")
    async def test_metadata_is_left_out(self, component: Output, tmp_path: Path) -> None:
        rows = self.sample(0, 3)
        async with self.opened(component, tmp_path) as writer:
            await self.soon(writer.write([attach(rows, Origin("suite", ext={"path": "a"}))]))
        found = await self.soon(self.read_back(component))
        assert [name for row in found for name in row if name.startswith(PREFIX)] == []
        await self.assert_written(component, self.written(rows))

    @needs("readable", "any_schema")
    async def test_columns_are_told_apart_by_name(self, component: Output, tmp_path: Path) -> None:
        second = self.sample(3, 3)
        turned = second.select(second.schema.names[::-1])
        async with self.opened(component, tmp_path) as writer:
            await self.soon(writer.write([self.sample(0, 3)]))
            await self.soon(writer.write([turned]))
        await self.assert_written(component, self.written(self.sample(0, 6)))

    @needs("readable", "any_schema")
    async def test_any_column_name_is_only_a_name(self, component: Output, tmp_path: Path) -> None:
        names = ["id", "select", "Mixed Case", "quote\"d'", "semi; drop table --", "ünï"]
        rows = pa.record_batch({name: pa.array([number, number]) for number, name in enumerate(names)})
        rows = rows.set_column(0, "id", pa.array([1, 2]))
        async with self.opened(component, tmp_path) as writer:
            await self.soon(writer.write([rows]))
        await self.assert_written(component, self.written(rows))

    @needs("readable", "any_schema")
    @pytest.mark.parametrize("kind", list(ARROW_TYPES))
    async def test_every_arrow_type_is_written_or_refused(self, component: Output, tmp_path: Path, kind: str) -> None:
        rows = of_type(ARROW_TYPES[kind])
        async with self.opened(component, tmp_path) as writer:
            if kind in self.refused_types:
                with pytest.raises(PermanentError):
                    await self.soon(writer.write([rows]))
                return
            await self.soon(writer.write([rows]))
        found = sorted(await self.soon(self.read_back(component)), key=lambda row: int(row["id"]))
        assert len(found) == 3
        assert [row.get("value") is None for row in found] == [False, True, False]
        if kind in ("bool", "int64", "uint8", "string", "large_string", "string_view", "dictionary"):
            assert found[0]["value"] == self.written(rows)[0]["value"]

    @needs("readable", "keyed")
    async def test_a_repeated_write_changes_nothing(self, component: Output, tmp_path: Path) -> None:
        for _ in range(2):
            async with self.opened(component, tmp_path) as writer:
                for _ in range(2):
                    await self.soon(writer.write([self.sample(0, 3), self.sample(3, 2)]))
        await self.assert_written(component, self.written(self.sample(0, 5)))

    @needs("readable", "keyed")
    async def test_the_last_row_of_a_key_wins(self, component: Output, tmp_path: Path) -> None:
        first, other = self.sample(0, 2), self.sample(10, 2)
        at = first.schema.get_field_index("id")
        changed = other.set_column(at, first.schema.field(at), first.column(at))
        async with self.opened(component, tmp_path) as writer:
            await self.soon(writer.write([first, changed]))
            if self.readable_while_open:
                await self.assert_written(component, self.written(changed))
            await self.soon(writer.write([first]))
        await self.assert_written(component, self.written(first))

    @needs("readable", "rejects_rows")
    async def test_bad_rows_are_named_and_nothing_is_written(self, component: Output, tmp_path: Path) -> None:
        batch, bad = self.with_bad_row()
        good = batch.filter(pa.array([index not in bad for index in range(batch.num_rows)]))
        async with self.opened(component, tmp_path) as writer:
            with pytest.raises(RowsRejected) as refusal:
                await self.soon(writer.write([batch]))
            assert set(refusal.value.reasons) == bad
            assert all(refusal.value.reasons.values())
            if self.readable_while_open:
                await self.assert_written(component, [])
            await self.soon(writer.write([good]))
        await self.assert_written(component, self.written(good))

    @needs("readable", "transactional")
    async def test_rows_and_positions_are_saved_together(self, component: Output, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as writer:
            assert isinstance(writer, TransactionalWriter)
            assert await self.soon(writer.load("suite/input")) is None
            await self.soon(writer.write_and_save([self.sample(0, 3)], {"suite/input": {"position": 3, "rows": 3}}))
            await self.soon(writer.save({"suite/other": {"position": [1, "two"], "rows": 0}}))
        async with self.opened(component, tmp_path) as writer:
            assert isinstance(writer, TransactionalWriter)
            assert await self.soon(writer.load("suite/input")) == {"position": 3, "rows": 3}
            assert await self.soon(writer.load("suite/other")) == {"position": [1, "two"], "rows": 0}
        await self.assert_written(component, self.written(self.sample(0, 3)))

    @needs("readable", "transactional", "refuses")
    async def test_a_failed_write_saves_no_position(self, component: Output, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as writer:
            assert isinstance(writer, TransactionalWriter)
            await self.soon(writer.write_and_save([self.sample(0, 3)], {"suite/input": {"position": 3, "rows": 3}}))
            with pytest.raises(PenstockError):
                await self.soon(
                    writer.write_and_save(
                        [self.sample(3, 2), self.refused()], {"suite/input": {"position": 7, "rows": 7}}
                    )
                )
        async with self.opened(component, tmp_path) as writer:
            assert isinstance(writer, TransactionalWriter)
            assert await self.soon(writer.load("suite/input")) == {"position": 3, "rows": 3}
        await self.assert_written(component, self.written(self.sample(0, 3)))
