"""A stream is a value: an input, a buffer, a pipeline of processors, an output."""

from __future__ import annotations

import hashlib
import os
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, model_validator

from .backoff import Backoff
from .component import Buffer, Component, Input, Output, Processor, Temporary
from .durability import Durability
from .duration import Duration
from .options import Options

ThreadCount = Annotated[int, Field(ge=0), AfterValidator(lambda number: number or os.cpu_count() or 1)]
"""A number of threads; 0 is as many as there are processors."""


class Pipeline(Options):
    """What happens to each batch."""

    thread_num: ThreadCount = Field(default_factory=lambda: os.cpu_count() or 1)
    """How many batches are processed at once, 0 for as many as there are processors; the output order is the input
    order, whatever it is."""
    processors: Annotated[
        list[Processor],
        BeforeValidator(lambda value: [] if value is None else value, json_schema_input_type=list[Processor] | None),
    ] = []
    """The processors, in order."""


class Restart(Backoff):
    """When a stream that failed is started again."""

    attempts: int | None = 5
    """How many failures in a row are answered with a restart; 0 for none, null for no limit."""
    initial: Duration = 1.0
    """The wait before the first restart; it doubles with each further one."""
    maximum: Duration = 60.0
    """The longest wait; a stream that ran that long starts counting anew."""


class Source(NamedTuple):
    """Where a stream is written down."""

    file: str = ""
    """The file; empty for one that an application brings along, or that was made in Python."""
    line: int | None = None
    application: str = ""
    """The application that brings it along."""


def _pipeline(value: Any) -> Any:
    return {"processors": list(value)} if isinstance(value, list | tuple) else {} if value is None else value


class Stream(Options):
    """Rows flow from an input, through a buffer and processors, to an output; nothing accepted is lost."""

    id: str = Field("stream", pattern=r"^[A-Za-z0-9_-]+$")
    """Names the stream in logs, metrics and checkpoints. With an `id` of your own the stream goes on where its last run
    ended, also one whose input has an end: what was read is not read again, whichever file the stream stands in and
    whatever else of it is changed. Without one it goes on after a crash or a stop, but reads its input anew once a run
    has read it to its end, or once the input is changed; and a file of streams shares nothing with another one."""
    input: Input
    """Where batches come from."""
    buffer: Buffer | None = None
    """What holds or regroups batches before the pipeline."""
    pipeline: Annotated[
        Pipeline, BeforeValidator(_pipeline, json_schema_input_type=Pipeline | list[Processor] | None)
    ] = Pipeline()
    """What happens to each batch; in Python also a plain list of processors."""
    output: Output
    """Where batches go."""
    error_output: Output | None = None
    """Where rows go that cannot be decoded, processed or written, each with its reason, stage, original payload and
    metadata. Without one such a row stops the stream at once, unless a sender is told of it: nothing is dropped."""
    temporary: list[Temporary] = []
    """Tables that the queries of `sql` processors look rows up in, by the keys that a batch has."""
    durability: Durability | None = None
    """Keep what was read in a write-ahead log until it is written: for inputs that cannot replay."""
    checkpoint: Literal["state", "output"] = "state"
    """Where positions are kept: in the engine's state (each row at least once), or by the output in the same
    transaction as the rows (exactly once for inputs that replay)."""
    metadata: bool | None = None
    """Whether the `__meta_*` columns are made; by default only if the configuration names one."""
    max_in_flight: int = Field(8, ge=1)
    """How many deliveries may be on their way at once; the input waits beyond that."""
    retry: Backoff = Backoff()
    """How output writes and lost connections are retried; by default until they succeed."""
    restart: Restart = Restart()
    """When the stream is started again after a failure."""
    stall_timeout: Duration = Field(10.0, gt=0)
    """How long a batch may be processed or written before the stream is shown as unwell: it stands still."""
    shutdown_timeout: Duration = 30.0
    """How long a stop may take to write what is in flight; what is not written by then is read again next time."""

    _identity: str = PrivateAttr("")
    _source: Source = PrivateAttr(Source())

    @property
    def source(self) -> Source:
        """Where it is written down."""
        return self._source

    def written_at(self, source: Source) -> Stream:
        """Note where it is written down, and return it."""
        self._source = source
        return self

    @property
    def identity(self) -> str:
        """What tells it apart from streams of other files of which none has an `id`; empty if it has one."""
        return self._identity

    def numbered(self, index: int, file: str) -> Stream:
        """Return the stream, which has no `id`, as the one at a place in a file."""
        stream = self.model_copy(update={"id": f"stream-{index}"})
        place = f"{file}#{index}".encode()
        stream._identity = f"@{hashlib.sha256(place).hexdigest()[:10]}"
        return stream

    @model_validator(mode="after")
    def _check(self) -> Stream:
        names = [temporary.name for temporary in self.temporary]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two tables of `temporary` are called {twice!r}")
        for processor in self.pipeline.processors:
            regroups(processor)
            for name in processor.looks_up():
                if name not in names:
                    raise ValueError(
                        f"{processor.type_name!r} looks rows up in {name!r}, which `temporary` does not name; "
                        f"expected one of {', '.join(names) or 'none, as there is no `temporary`'}"
                    )
        self._check_join()
        held = self.buffer.most_held() if self.buffer else 0
        if held is not None and held > MAX_HELD:
            raise ValueError(
                f"buffer {self.buffer.type_name if self.buffer else ''!r} could hold {held} deliveries; "
                f"a checkpoint follows {MAX_HELD} at most, so it would wait for ever"
            )
        return self

    def _check_join(self) -> None:
        """Raise ValueError unless a join reads the inputs of the stream by their names."""
        read = self.buffer.tables_read() if self.buffer is not None else None
        if read is None:
            return
        names = {child.name for child in self.input.children().values()}
        if not names:
            raise ValueError("a `join` needs an input of type `multiple_inputs`, whose inputs have a `name` each")
        if None in names:
            raise ValueError("a `join` needs a `name` for each input: that of its table")
        if unknown := sorted(read - names):
            raise ValueError(f"the `join` reads the table {unknown[0]!r}, which no input is called")
        if left := sorted(str(name) for name in names - read):
            raise ValueError(f"the `join` does not read the input {left[0]!r}, whose rows would be lost")

    def components(self) -> list[tuple[str, Component]]:
        """Return all components with the path of each."""
        named: list[tuple[str, Component | None]] = [
            (f"input.{key}", child) for key, child in self.input.children().items()
        ] or [("input", self.input)]
        named += [("buffer", self.buffer)]
        named += [(f"pipeline.processors.{i}", p) for i, p in enumerate(self.pipeline.processors)]
        named += [(f"temporary.{i}", temporary) for i, temporary in enumerate(self.temporary)]
        named += [("output", self.output), ("error_output", self.error_output)]
        return [(path, component) for path, component in named if component is not None]

    def reads_metadata(self) -> bool:
        """Tell whether the ``__meta_*`` columns are to be made."""
        if self.metadata is not None:
            return self.metadata
        return any(component.reads_metadata() for path, component in self.components() if path != "error_output")

    def columns_read(self) -> frozenset[str] | None:
        """Return the only columns of the decoded input that anything reads; None when all may be."""
        first = self.pipeline.processors[0].columns_read() if self.pipeline.processors else None
        return first if self.buffer is None else self.buffer.columns_needed(first)


MAX_HELD = 1 << 20
"""How many deliveries a checkpoint follows at most."""


def regroups(processor: Processor) -> Buffer | None:
    """Return the buffer that a processor stands for, where it only regroups batches."""
    options = processor.regroups()
    return Buffer.parse(dict(options)) if options is not None else None
