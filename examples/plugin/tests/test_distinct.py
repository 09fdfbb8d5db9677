"""The processor with state, by the suite that all processors pass: it crashes the stream at every point."""

import pytest

from penstock.component import Processor
from penstock.testing.suites import ProcessorSuite


class TestDistinct(ProcessorSuite):
    deterministic = False
    keeps_state = True

    @pytest.fixture
    def component(self) -> Processor:
        return Processor.parse({"type": "distinct", "column": "id"})
