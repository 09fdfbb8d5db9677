"""What every codec promises: what it encodes it can decode, and garbage is refused, not guessed at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from ...absence import without
from ...component import Codec
from ...delivery import Batch
from ...errors import PermanentError
from .. import batches
from ..batches import JSON_TYPES, rows_of
from .suite import Suite, needs

EXAMPLES = settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))


class CodecSuite(Suite):
    """Give a ``component`` fixture, the ``types`` it keeps, and some ``garbage``."""

    encodes = True
    """It can encode."""
    decodes = True
    """It can decode."""
    types: ClassVar[Sequence[pa.DataType]] = JSON_TYPES
    """The types that survive a round trip."""
    finite = True
    """NaN and infinity do not survive."""
    nulls = True
    """Nulls survive (a null may come back as a missing column, if the whole column was null)."""
    garbage: ClassVar[Sequence[bytes]] = ()
    """Payloads that cannot be decoded; none if every payload can."""

    @pytest.fixture
    def component(self) -> Codec:
        """Return the codec under test."""
        raise NotImplementedError("the suite needs a `component` fixture that returns the codec")

    def sample(self, start: int, rows: int) -> Batch:
        """Return rows ``start`` and on of a table that never ends."""
        return batches.sample(start, rows)

    def payloads(self, component: Codec, start: int, rows: int) -> pa.BinaryArray:
        """Return good payloads; a codec that cannot encode needs its own."""
        return component.encode(self.sample(start, rows))

    def rows(self, batch: Batch) -> list[Any]:
        """Return the rows of a batch in a form that can be compared."""
        return rows_of(without(batch))

    def any_batch(self) -> SearchStrategy[Batch]:
        """Return a strategy for batches that are encoded and decoded; a codec with columns of its own needs its own."""
        return batches.batches(self.types, nulls=self.nulls, finite=self.finite)

    def _for_any_batch(self, check: Callable[[Batch], None]) -> None:
        EXAMPLES(given(self.any_batch())(check))()

    @needs("encodes", "decodes")
    def test_what_is_encoded_is_decoded_again(self, component: Codec) -> None:
        def check(batch: Batch) -> None:
            assert self.rows(component.decode(component.encode(batch))) == self.rows(batch)

        self._for_any_batch(check)

    @needs("encodes")
    def test_one_payload_for_each_row(self, component: Codec) -> None:
        payloads = component.encode(self.sample(0, 5))
        assert payloads.type == pa.binary()
        assert len(payloads) == 5
        assert payloads.null_count == 0
        assert len(component.encode(self.sample(0, 5).slice(0, 0))) == 0

    @needs("encodes")
    def test_a_slice_is_encoded_without_the_rest(self, component: Codec) -> None:
        assert component.encode(self.sample(0, 9).slice(3, 4)).equals(component.encode(self.sample(3, 4)))

    @needs("decodes")
    def test_a_slice_is_decoded_without_the_rest(self, component: Codec) -> None:
        payloads = self.payloads(component, 0, 9)
        copied = pa.array(payloads[3:7].to_pylist(), pa.binary())
        assert self.rows(component.decode(payloads.slice(3, 4))) == self.rows(component.decode(copied))

    @needs("decodes")
    def test_payloads_are_decoded_in_order(self, component: Codec) -> None:
        payloads = self.payloads(component, 0, 6)
        alone = [row for i in range(6) for row in self.rows(component.decode(payloads.slice(i, 1)))]
        assert self.rows(component.decode(payloads)) == alone

    @needs("decodes")
    def test_no_payloads_are_no_rows(self, component: Codec) -> None:
        assert component.decode(pa.array([], pa.binary())).num_rows == 0

    @needs("decodes", "garbage")
    def test_garbage_is_refused(self, component: Codec) -> None:
        good = self.payloads(component, 0, 2).to_pylist()
        for bad in self.garbage:
            for payloads in ([bad], [good[0], bad, good[1]]):
                for decode in (component.decode, component.decoder()):
                    with pytest.raises(PermanentError):
                        decode(pa.array(payloads, pa.binary()))

    @needs("decodes", "garbage")
    def test_garbage_does_not_spoil_a_decoder(self, component: Codec) -> None:
        decode = component.decoder()
        good = self.payloads(component, 0, 3)
        with pytest.raises(PermanentError):
            decode(pa.array([self.garbage[0]], pa.binary()))
        assert self.rows(decode(good)) == self.rows(component.decode(good))

    @needs("encodes", "decodes")
    def test_a_decoder_agrees_with_decode(self, component: Codec) -> None:
        decode = component.decoder()

        def check(batch: Batch) -> None:
            payloads = component.encode(batch)
            assert self.rows(decode(payloads)) == self.rows(component.decode(payloads))

        self._for_any_batch(check)

    @needs("decodes")
    def test_a_decoder_keeps_its_schema(self, component: Codec) -> None:
        decode = component.decoder()
        schemas = {decode(self.payloads(component, start, 4)).schema for start in (0, 4, 8)}
        assert len(schemas) == 1

    @needs("decodes")
    def test_a_decoder_may_leave_out_only_what_nobody_reads(self, component: Codec) -> None:
        payloads = self.payloads(component, 0, 4)
        whole = component.decode(payloads)
        for name in whole.schema.names:
            part = component.decoder(frozenset({name}))(payloads)
            assert part.num_rows == whole.num_rows
            assert part.column(name).to_pylist() == whole.column(name).to_pylist()

    @needs("decodes")
    def test_several_at_once_do_not_disturb_one_another(self, component: Codec) -> None:
        decode = component.decoder()
        parts = [self.payloads(component, start, 5) for start in range(0, 80, 5)]
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(decode, parts))
        assert [self.rows(batch) for batch in found] == [self.rows(component.decode(part)) for part in parts]
