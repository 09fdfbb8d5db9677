"""Conversations for people to read elsewhere: as Markdown, and as HTML of one file that runs nothing."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ..lines import Kind
from ..transcripts.adapter import translate
from .thread import blocks_of, decode, text_of

WHO = {Kind.PROMPT: "You", Kind.ANSWER: "Agent", Kind.RESULT: "Tool", Kind.COMMAND: "Program", Kind.EVENT: "Event"}
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ANSI = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[@-Z\\\\-_])")
_IMAGE = re.compile(r"image/(?:png|jpeg|gif|webp)")
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]*")
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.55 system-ui, sans-serif; }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
article { border-top: 1px solid #8884; padding: 0.75rem 0; unicode-bidi: isolate; }
.prompt { background: #8881; padding-inline: 1rem; border-radius: 8px; }
.by { color: #888; font-size: 0.875rem; margin: 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: 0.8125rem/1.5 ui-monospace, monospace; margin: 0.5rem 0; }
.said { font: inherit; }
details { border: 1px solid #8884; border-radius: 6px; padding: 0.25rem 0.75rem; margin: 0.5rem 0; }
.bad summary { color: #b3261e; }
img { max-width: 100%; }
"""
_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
    f"<title>Conversations</title><style>{_STYLE}</style></head><body>\n"
)

Read = tuple[Any, str, bytes]
"""A line, the title of its session, and its bytes."""


def write_markdown(read: Iterable[Read]) -> Iterator[str]:
    """Yield lines as Markdown: what was said, and tools with what they answered as code."""
    for is_first, row, title, parts in _entries(read):
        if is_first:
            yield f"# {_one_line(title)}\n\n{_one_line(row.project)} · {row.at:%Y-%m-%d %H:%M} UTC\n\n"
        yield f"### {WHO[Kind(row.kind)]} · {row.at:%Y-%m-%d %H:%M:%S}\n\n"
        for name, text, _ in parts:
            if name == "text":
                yield f"{clean(text)}\n\n"
            elif name == "image":
                yield "[image]\n\n"
            else:
                yield f"**{_one_line(name)}**\n\n{_fenced(clean(text))}\n\n"


def write_html(read: Iterable[Read]) -> Iterator[str]:
    """Yield lines as one HTML file: all that was said is text in it, and it runs and loads nothing."""
    yield _HEAD
    for is_first, row, title, parts in _entries(read):
        if is_first:
            yield f"<h1>{escape(title)}</h1><p class=by>{escape(row.project)} · {escape(row.session or '')}</p>\n"
        by = f"{WHO[Kind(row.kind)]} · <time>{row.at:%Y-%m-%d %H:%M:%S} UTC</time>"
        yield f'<article class="{Kind(row.kind).value}" id="line-{row.id}"><p class=by>{by}</p>'
        for name, text, is_bad in parts:
            yield _part(name, text, is_bad)
        yield "</article>\n"
    yield "</body></html>\n"


def escape(text: str) -> str:
    """Return a text for HTML, without what terminals obey and what turns the order of letters around."""
    return html.escape(clean(text), quote=True)


def clean(text: str) -> str:
    """Return a text without what terminals obey and what turns the order of letters around."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _ANSI.sub("", text))


def _entries(read: Iterable[Read]) -> Iterator[tuple[bool, Any, str, list[tuple[str, str, bool]]]]:
    """Yield each line that has something to read: whether it begins a session, and its parts."""
    shown: Any = object()
    for row, title, line in read:
        found = translate(decode(line))
        parts = list(_parts(found))
        if parts:
            yield row.session != shown, row, title, parts
            shown = row.session


def _parts(found: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Yield the parts of a line: what each is, its text, and whether it tells of a failure."""
    if found.get("type") == "system" and isinstance(found.get("content"), str):
        yield "text", found["content"], False
    for block in blocks_of(found):
        type = block.get("type")
        if type == "text" and isinstance(text := block.get("text"), str):
            yield "text", text, False
        elif type == "thinking" and isinstance(text := block.get("thinking"), str):
            yield "Thinking", text, False
        elif type in ("tool_use", "server_tool_use"):
            yield str(block.get("name") or "Tool"), _indented(block.get("input")), False
        elif type == "tool_result":
            yield "Result", text_of(block.get("content")), block.get("is_error") is True
        elif type == "image":
            yield "image", _data_of(block.get("source")), False


def _part(name: str, text: str, is_bad: bool) -> str:
    if name == "text":
        return f"<pre class=said>{escape(text)}</pre>"
    if name == "image":
        return f'<img alt="Image of the conversation" src="{html.escape(text)}">' if text else "<p>[image]</p>"
    kind = ' class="bad"' if is_bad else ""
    return f"<details{kind}><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>"


def _data_of(source: Any) -> str:
    """Return the address of an image that stands in a line; empty for anything else."""
    if not isinstance(source, dict) or not isinstance(data := source.get("data"), str):
        return ""
    type = str(source.get("media_type"))
    return f"data:{type};base64,{data}" if _IMAGE.fullmatch(type) and _BASE64.fullmatch(data) else ""


def _indented(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode("utf-8", "replace")


def _fenced(text: str) -> str:
    """Return a text as code, between more marks than it has itself."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}\n{text}\n{fence}"


def _one_line(text: str) -> str:
    return " ".join(clean(text).split())
