"""Write every row to each of several outputs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated

from pydantic import Field, model_validator

from ..component import Branch, Output, Writer
from ..context import Context
from ._branches import check_names, open_all


class FanOut(Output, type="fan_out"):
    """Write every row to each of several outputs; it is acked once all of them have written it.

    Each output is opened, retried and opened again by itself: while one is down the others are not written to again,
    and none of them gets further ahead than ``max_in_flight`` deliveries. A row that one output refuses goes to
    ``error_output`` with the name of that output in its stage (`output.archive`), and the others keep it.

    After a crash rows come again that were not acked: to all outputs, also to those that had written them. With
    ``checkpoint: output`` the last output keeps the positions, in the transaction of its rows: it has each row
    exactly once, and the others, which are written before it, at least once.

    Example::

        type: fan_out
        outputs:
          - {type: file, name: archive, path: "archive/%Y-%m-%d.jsonl"}
          - {type: http, name: hook, url: "http://127.0.0.1:9000/rows"}
    """

    outputs: Annotated[list[Output], Field(min_length=1, max_length=60)]
    """The outputs; `name` is what logs, metrics and stages call each."""

    @model_validator(mode="after")
    def _check(self) -> FanOut:
        if self.codec is not None:
            raise ValueError("`codec` belongs to each of the outputs")
        check_names(self.outputs)
        return self

    def open(self, context: Context) -> AbstractAsyncContextManager[Writer]:
        """Open all outputs, to be written to in turn where no stream runs them."""
        return open_all(self.branches(), context)

    def branches(self) -> Sequence[Branch]:
        """Return the outputs."""
        return [Branch(output) for output in self.outputs]

    def spaces(self) -> Sequence[str]:
        """Return what any of the outputs writes."""
        return [space for output in self.outputs for space in output.spaces()]

    def reads_metadata(self) -> bool:
        """Tell whether any of the outputs reads a ``__meta_*`` column."""
        return any(output.reads_metadata() for output in self.outputs)
