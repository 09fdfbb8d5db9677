"""The inputs of a stream, where several are read in place of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from .component import Input
from .context import Context
from .delivery import Decoder, Delivery
from .metadata import Origin


@dataclass(frozen=True, slots=True)
class Branch:
    """An input that a stream reads: its only one, or one of several."""

    input: Input
    key: str = ""
    """The name under which its positions are kept; empty where it is the only one."""
    decoder: Decoder | None = None
    """How its payloads are decoded, where each input has a codec of its own."""

    @property
    def part(self) -> str:
        """How it is called where a stream says what is in its way."""
        return f"input {self.key}" if self.key else "input"

    def lend(self, context: Context) -> Context:
        """Return the context of the stream as this input is lent it, with positions of its own."""
        return replace(context, name=f"{context.name}/input/{quote(self.key, safe='')}") if self.key else context

    def mark(self, delivery: Delivery) -> None:
        """Note on a delivery which input it came from, and how it is decoded."""
        if not self.key:
            return
        if delivery.origin is None:
            delivery.origin = Origin(self.input.name or self.input.type_name)
        elif self.input.name:
            delivery.origin = replace(delivery.origin, source=self.input.name)
        delivery.decoder = delivery.decoder or self.decoder


def branches(input: Input, columns: frozenset[str] | None = None) -> Sequence[Branch]:
    """Return the inputs that are read for an input; ``columns`` are the only ones that anything reads."""
    found = []
    for key, child in input.children().items():
        codec = child.payload_codec()
        found.append(Branch(child, key, codec.decoder(columns) if codec is not None else None))
    return found or [Branch(input)]
