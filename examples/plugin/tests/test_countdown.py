"""The input, by the suite that all inputs pass."""

import pytest

from penstock.component import Input
from penstock.testing.suites import InputSuite


class TestCountdown(InputSuite):
    @pytest.fixture
    def component(self) -> Input:
        return Input.parse({"type": "countdown", "start": 6})

    def expected(self, component):
        return [{"number": number, "name": f"T-{number}"} for number in (6, 5, 4, 3, 2, 1)]


def test_a_countdown_does_not_begin_below_zero():
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Input.parse({"type": "countdown", "start": -1})
