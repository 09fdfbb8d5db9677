"""From where rows come and to where they go: sources, streams and tables, as the configuration says it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from ...clients.database import redact_url
from ...component import Component
from ...platform.stages import where
from ...runtime.branches import find_leaves
from ...stream import Stream

if TYPE_CHECKING:
    from ...supervision import SupervisedStream

MAX_TABLES = 500
"""How many tables of one output are shown, where the rows say which."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A source, a stream or a table."""

    id: str
    kind: str
    """``source``, ``stream``, ``table``, ``errors`` or ``reader``."""
    title: str
    type: str
    """The type of the component that reads or writes it; the application of a stream."""
    where: str
    """Where it is, without secrets."""


class Edge(msgspec.Struct, frozen=True):
    """Rows go from one node to another one."""

    begin: str
    end: str


class Lineage(msgspec.Struct):
    """All nodes and edges."""

    nodes: list[Node]
    edges: list[Edge]


def lineage(streams: Iterable[SupervisedStream], tables: Iterable[str], readers: Collection[str]) -> Lineage:
    """Return from where rows come and to where they go.

    ``tables`` are those of the rows of the installation, ``readers`` the applications that show what is in theirs.
    """
    nodes: dict[str, Node] = {}
    edges: dict[Edge, None] = {}
    known = list(tables)[:MAX_TABLES]
    for stream in (one.stream for one in streams):
        nodes[f"stream:{stream.id}"] = Node(
            id=f"stream:{stream.id}", kind="stream", title=stream.id, type=stream.source.application, where=""
        )
        for begin, end, node in _ends(stream, known):
            nodes.setdefault(node.id, node)
            edges[Edge(begin, end)] = None
            if (reader := stream.source.application) in readers and node.kind == "table":
                nodes.setdefault(f"reader:{reader}", _reader(reader))
                edges[Edge(node.id, f"reader:{reader}")] = None
    return Lineage(list(nodes.values()), list(edges))


def _reader(application: str) -> Node:
    return Node(id=f"reader:{application}", kind="reader", title=application, type="application", where="")


def _ends(stream: Stream, tables: list[str]) -> Iterator[tuple[str, str, Node]]:
    """Yield the edges of a stream, each with the node at its other end."""
    here = f"stream:{stream.id}"
    for component in stream.input.children().values() or [stream.input]:
        node = _source(component, stream)
        yield node.id, here, node
    for table in stream.temporary:
        node = _table(table, "source", tables)[0]
        yield node.id, here, node
    for leaf in find_leaves(stream.output):
        for node in _table(leaf.output, "table", tables):
            yield here, node.id, node
    if stream.error_output is not None:
        for node in _table(stream.error_output, "errors", []):
            yield here, node.id, node


def _source(component: Component, stream: Stream) -> Node:
    found = where(component)
    place = ", ".join(text for name, text in found.items() if name != "key") or component.name or ""
    title = found.get("table_name") or found.get("topic") or found.get("topics") or found.get("path") or place
    id = f"source:{component.type_name}:{place or stream.id}"
    return Node(id=id, kind="source", title=title or component.type_name, type=component.type_name, where=place)


def _table(component: Component, kind: str, tables: list[str]) -> list[Node]:
    """Return what a component writes to; each of ``tables`` where the rows say which."""
    found = where(component)
    name = getattr(getattr(component, "table_name", None), "constant", None)
    database = redact_url(found["url"]) if "url" in found else ""
    if getattr(component, "table_name", None) is not None and name is None:
        names = tables or ["a table for each row"]
    else:
        names = [
            name
            or found.get("path")
            or found.get("topic")
            or database.rpartition("/")[2]
            or component.name
            or component.type_name
        ]
    place = database or ", ".join(text for key, text in found.items() if key not in ("table_name", "key"))
    return [
        Node(
            id=f"table:{component.type_name}:{place}:{one}", kind=kind, title=one, type=component.type_name, where=place
        )
        for one in names
    ]
