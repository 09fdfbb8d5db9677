"""Write each row to the output whose condition it meets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ..component import Branch, Output, Writer
from ..context import Context
from ..metadata import PREFIX
from ..options import Options
from ..sql.choice import MAX_CONDITIONS, check_condition
from ._branches import check_names, open_all


class Case(Options):
    """Where some of the rows go."""

    when: str | None = None
    """The SQL condition that a row meets; without one, which only the last case may be, all that are left."""
    output: Output
    """Where these rows go; `drop` leaves them out."""

    @field_validator("when")
    @classmethod
    def _is_condition(cls, value: str | None) -> str | None:
        if value is not None:
            check_condition(value)
        return value


class Switch(Output, type="switch"):
    """Write each row to the output of the first case whose condition it meets, or of all such cases.

    A row that no case takes is refused, as is one whose condition cannot be computed: end with a case without
    ``when``, and `output: drop` there if such rows are to be left out. A condition is SQL over the columns of one
    row; it may read ``__meta_*`` columns.

    The outputs are run as those of `fan_out`: each is retried by itself, rows are acked once every output that is to
    have them has them, and with ``checkpoint: output`` the last output keeps the positions.

    Example::

        type: switch
        cases:
          - when: level = 'error'
            output: {type: file, path: errors.jsonl}
          - output: {type: file, path: "others.jsonl"}
    """

    cases: Annotated[list[Case], Field(min_length=1, max_length=MAX_CONDITIONS - 1)]
    """The cases, in order."""
    match: Literal["first", "all"] = "first"
    """Whether a row goes to the first case whose condition it meets, or to all of them."""

    @model_validator(mode="after")
    def _check(self) -> Switch:
        if self.codec is not None:
            raise ValueError("`codec` belongs to the output of each case")
        if any(case.when is None for case in self.cases[:-1]):
            raise ValueError("a case without `when` takes all that are left, so it has to be the last one")
        check_names([case.output for case in self.cases])
        return self

    def open(self, context: Context) -> AbstractAsyncContextManager[Writer]:
        """Open the outputs of all cases, to be written to in turn where no stream runs them."""
        return open_all(self.branches(), context)

    def branches(self) -> Sequence[Branch]:
        """Return the outputs with the conditions of each, and at the end what becomes of rows that none takes."""
        conditions = [f"(\n{case.when}\n)" for case in self.cases if case.when is not None]
        cases = " ".join(f"WHEN {condition} THEN {at}" for at, condition in enumerate(conditions))
        chosen = f"(CASE {cases} ELSE {len(conditions)} END)" if cases else "0"
        found = []
        for at, case in enumerate(self.cases):
            is_met = self.match == "all" and case.when is not None
            label = case.when or "no other case takes them"
            found.append(Branch(case.output, conditions[at] if is_met else f"{chosen} = {at}", label))
        if self.cases[-1].when is not None:
            found.insert(0, Branch(None, f"{chosen} = {len(conditions)}"))
        return found

    def spaces(self) -> Sequence[str]:
        """Return what the output of any case writes."""
        return [space for case in self.cases for space in case.output.spaces()]

    def reads_metadata(self) -> bool:
        """Tell whether a condition or an output reads a ``__meta_*`` column."""
        named = any(PREFIX in (case.when or "").lower() for case in self.cases)
        return named or any(case.output.reads_metadata() for case in self.cases)
