"""Take secrets out of lines: by rules that ship, and by patterns of one's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
import pyarrow as pa
from pydantic import field_validator

from ...component import Processor
from ...delivery import Batch
from ...metadata import VALUE
from ...surrogates import mask_unpaired
from .lines import BOM

RULES: Mapping[str, str] = {
    "private-key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    "anthropic-key": r"\bsk-ant-[A-Za-z0-9_-]{20,}",
    "openai-key": r"\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{32,}",
    "github-token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})",
    "gitlab-token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "slack-token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "aws-key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "google-key": r"\bAIza[A-Za-z0-9_-]{35}",
    "npm-token": r"\bnpm_[A-Za-z0-9]{36}",
    "stripe-key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{20,}",
    "json-web-token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "bearer": r"(?i)(?<=\bbearer )[A-Za-z0-9._~+/-]{16,}=*",
    "password-in-url": r"(?<=://)[^\s/:@\"'<>]{0,100}:[^\s/@\"'<>]{1,200}(?=@)",
    "password": r"(?i)(?<![A-Za-z])(?:[A-Z0-9_]{0,40}(?:password|passwd|secret|api_?key|access_?token|auth_?token))"
    r"\s{0,3}[=:]\s{0,3}(?:\"[^\"\s]{6,200}\"|'[^'\s]{6,200}'|[^\s\"',;)}\]]{8,200})",
}
"""What is a secret by its form, by the name that stands in its place."""


class Redaction:
    """Replaces what rules find in the texts of a line; the line stays a line."""

    def __init__(self, patterns: Iterable[str] = (), rules: Iterable[str] = tuple(RULES)) -> None:
        found = {name: RULES[name] for name in rules}
        found |= {f"pattern-{number}": pattern for number, pattern in enumerate(patterns, 1)}
        self._rules = [(f"[redacted:{name}]", re.compile(pattern)) for name, pattern in found.items()]

    def clean(self, text: str) -> str:
        """Return a text without secrets."""
        for name, rule in self._rules:
            text = rule.sub(name, text)
        return text

    def clean_line(self, line: bytes) -> bytes:
        """Return a line without secrets, byte for byte as it came if it has none.

        Texts are searched as they are meant, not as JSON escapes them; what is not JSON is searched as it is.
        """
        try:
            found = msgspec.json.decode(mask_unpaired(line.removeprefix(BOM)))
        except (msgspec.DecodeError, RecursionError):
            text = line.decode("utf-8", "surrogateescape")
            cleaned = self.clean(text)
            return line if cleaned == text else cleaned.encode("utf-8", "surrogateescape")
        changed: list[bool] = []
        redacted = _mapped(found, self.clean, changed)
        return msgspec.json.encode(redacted) if changed else line


def _mapped(value: Any, clean: Callable[[str], str], changed: list[bool]) -> Any:
    """Return a value with its texts cleaned; notes in ``changed`` that one was."""
    if isinstance(value, str):
        cleaned = clean(value)
        if cleaned != value:
            changed.append(True)
        return cleaned
    if isinstance(value, dict):
        return {_mapped(key, clean, changed): _mapped(one, clean, changed) for key, one in value.items()}
    return [_mapped(one, clean, changed) for one in value] if isinstance(value, list) else value


class Redact(Processor, type="conversations_redact"):
    """Take secrets out of lines before they are stored: keys and tokens by their form, and what patterns find.

    What is found is replaced by `[redacted:name]`, in the texts and names of a JSON line and in lines that are not
    JSON. A line without secrets stays as it is, byte for byte.

    Example::

        type: conversations_redact
        patterns: ['ACME-[0-9]{6}']
    """

    patterns: list[str] = []
    """Regular expressions of what is to be redacted beside the secrets that are known by their form."""

    @field_validator("patterns")
    @classmethod
    def _check(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                is_empty = re.compile(pattern).match("") is not None
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}, in {pattern!r}") from error
            if is_empty:
                raise ValueError(f"expected an expression that does not match the empty text, not {pattern!r}")
        return patterns

    @cached_property
    def _redaction(self) -> Redaction:
        return Redaction(self.patterns)

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Return the lines without secrets."""
        column = batch.column(VALUE)
        contents = column.cast(pa.binary()).to_pylist()
        cleaned = [None if one is None else self._redaction.clean_line(one) for one in contents]
        values = pa.array(cleaned, pa.binary()).cast(column.type)
        return [batch.set_column(batch.schema.get_field_index(VALUE), batch.schema.field(VALUE), values)]

    def row_wise(self) -> bool:
        """Tell that each line is looked at by itself."""
        return True
