"""Conformance suites: subclass one, give it a component, and it tests what every component of the kind promises.

    class TestLines(InputSuite):
        @pytest.fixture
        def component(self, tmp_path):
            (tmp_path / "a.log").write_text("a\\nb\\nc\\nd\\ne\\n")
            return Input.parse({"type": "lines", "path": str(tmp_path / "a.log")})

Class attributes say what the component can do; a test about something it cannot do does not exist for it. What a
component ought to do and does not yet is written into ``lacks``, with the reason. The suites need ``pytest-asyncio``
with ``asyncio_mode = "auto"``.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in ("buffers", "codecs", "inputs", "outputs", "processors", "suite", "temporary")
    )
)

from .buffers import BufferSuite  # noqa: E402
from .codecs import CodecSuite  # noqa: E402
from .inputs import InputSuite  # noqa: E402
from .outputs import OutputSuite  # noqa: E402
from .processors import ProcessorSuite  # noqa: E402
from .temporary import TemporarySuite  # noqa: E402

__all__ = ["BufferSuite", "CodecSuite", "InputSuite", "OutputSuite", "ProcessorSuite", "TemporarySuite"]
