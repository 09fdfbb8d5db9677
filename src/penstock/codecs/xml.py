"""XML: a document, or each of its elements of one name, is a row."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, ClassVar

import pyarrow as pa
from lxml import etree
from pydantic import field_validator

from ..component import Codec
from ..delivery import Batch, Decoder
from ..errors import PermanentError
from ._values import Moment, columns_decoder, plain_rows

_MAX_DEPTH = 64
_ATTRIBUTE, _TEXT = "@", "#text"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_NIL = f"{{{_XSI}}}nil"
_DECLARATION = re.compile(r"<\?xml\s[^>]*?encoding\s*=\s*[\"']([A-Za-z][\w.-]*)[\"']")
_PROLOG = re.compile(r"\s*+(?:(?:<!--.*?-->|<\?.*?\?>)\s*+)*+", re.DOTALL)
_BOMS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"<\x00": "utf-16-le",
    b"\x00<": "utf-16-be",
}
_ENCODINGS = re.compile(r"utf-?8|utf-?16|us-ascii|ascii|iso-8859-\d{1,2}|latin1|windows-125\d|cp125\d", re.IGNORECASE)


class Xml(Codec, type="xml"):
    """XML: a document is one row, or as many as it has elements that `row` names.

    An element that has others within it is a struct, one that comes several times is a list, any other is a text; an
    attribute is a field whose name begins with `@`, and the text of an element that has attributes is `#text`. What is
    within the outermost element are the columns. Everything is a text: XML tells no types, and none is guessed; `map`
    and `sql` cast. Prefixes of namespaces stay as they are written. An element that the row lacks is absent, and one
    with `xsi:nil="true"` is null.

    Whether an element is a text, a struct or a list must be the same in all rows: name those that may come once or
    several times in `lists`, and those that may have attributes or elements, or none, in `structs`.

    A document type (`<!DOCTYPE`) refuses the payload, and so entities, which could read files or grow without end, are
    never looked at. Text beside elements, elements nested deeper than 64, a second document and what is not
    well-formed refuse it too. A file of one document over many lines needs `framing: whole`.

    Written, each row is a document without line breaks: lists are elements that come again (an empty one is none),
    structs are nested, `@` makes attributes, bytes are base64, times ISO 8601; names that XML does not allow and
    characters that it cannot hold are refused.

    Example::

        type: xml
        row: channel/item
        lists: [category]
    """

    extra: ClassVar[str] = "xml"
    tells_absent: ClassVar[bool] = True

    row: str | None = None
    """The path of the elements that are rows, from within the outermost one, as `channel/item`; without it that one is
    the only row."""
    root: str = "row"
    """What the outermost element of a row is called that is written."""
    lists: frozenset[str] = frozenset()
    """The names of elements that are lists, also where they come once."""
    structs: frozenset[str] = frozenset()
    """The names of elements that are structs, also where they have text only."""

    @field_validator("row", "root")
    @classmethod
    def _is_path(cls, path: str | None) -> str | None:
        try:
            for name in path.split("/") if path is not None else ():
                etree.Element(name.replace(":", "-"))
        except ValueError:
            raise ValueError(f"expected names of elements, found {path!r}") from None
        return path

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        """Return the rows of all payloads; raises PermanentError if one is not well-formed or has a document type."""
        return self.decoder()(payloads)

    def decoder(self, columns: frozenset[str] | None = None) -> Decoder:
        """Return a decoder that keeps the types it has learned, and reads no other columns than ``columns``."""
        return columns_decoder(self._rows, columns)

    def _rows(self, payload: bytes) -> Iterator[dict[str, Any]]:
        root = _parse(payload)
        found = [root]
        for name in self.row.split("/") if self.row is not None else ():
            found = [child for element in found for child in element if _name(child) == name]
        for element in found:
            value = _Reading(self.lists, self.structs).read(element, 1, is_struct=True)
            yield value if isinstance(value, dict) else {}

    def encode(self, batch: Batch) -> pa.BinaryArray:
        """Return a document for each row; raises PermanentError for names and characters that XML cannot hold."""
        documents = []
        for row in plain_rows(batch):
            try:
                element = etree.Element(self.root)
                _write_fields(element, row)
            except (ValueError, TypeError) as error:
                raise PermanentError(f"the row cannot be written as XML: {str(error)[:240]}") from error
            documents.append(etree.tostring(element, encoding="utf-8").replace(b"\n", b"&#10;"))
        return pa.array(documents, pa.binary())


# -- reading -----------------------------------------------------------------------------------------------------------


def _parse(payload: bytes) -> Any:
    text = _decode(payload)
    start = _PROLOG.match(text)
    if start is not None and text.startswith("<!DOCTYPE", start.end()):
        raise PermanentError("the document has a document type (<!DOCTYPE>), which is not read")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        strip_cdata=True,
    )
    try:
        root = etree.fromstring(text.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise PermanentError(f"the payload is not well-formed XML: {str(error)[:160]}") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise PermanentError("the document has a document type (<!DOCTYPE>), which is not read")
    return root


def _decode(payload: bytes) -> str:
    """Return the text of a document, by its byte order mark or the encoding that it names, without its declaration."""
    encoding = next((name for mark, name in _BOMS.items() if payload.startswith(mark)), None)
    if encoding is None:
        declared = _DECLARATION.match(payload[:256].decode("latin-1"))
        encoding = declared[1] if declared is not None else "utf-8"
        if _ENCODINGS.fullmatch(encoding) is None:
            raise PermanentError(f"the document is encoded as {encoding}, which is not read")
    try:
        text = payload.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise PermanentError(f"the document is not encoded as it says: {str(error)[:120]}") from None
    if "\0" in text:
        raise PermanentError("the payload is not well-formed XML: it has a NUL character")
    if text.startswith("<?xml") and (end := text.find("?>")) >= 0:
        return text[end + 2 :]  # it names an encoding that the text no longer has
    return text


class _Reading:
    """Reads elements as values."""

    def __init__(self, lists: frozenset[str], structs: frozenset[str]) -> None:
        self._lists, self._structs = lists, structs

    def read(self, element: Any, depth: int, *, is_struct: bool) -> Any:
        """Return the value of an element: a text, a dictionary, or None where it is nil."""
        if depth > _MAX_DEPTH:
            raise PermanentError(f"elements are nested deeper than {_MAX_DEPTH}")
        attributes = _attributes(element)
        if element.get(_NIL) in ("true", "1"):
            if len(element) or element.text:
                raise PermanentError(f"<{_name(element)}> is nil, and not empty")
            if not attributes and not is_struct:
                return None
        if not len(element) and not attributes and not is_struct:
            return element.text or ""
        found: dict[str, Any] = {_ATTRIBUTE + name: value for name, value in attributes.items()}
        text = [element.text or "", *(child.tail or "" for child in element)]
        if not len(element):
            return found | ({_TEXT: text[0]} if text[0] else {})
        if any(part.strip() for part in text):
            raise PermanentError(f"<{_name(element)}> has text beside elements, which no column can hold")
        self._read_children(element, depth, found)
        return found

    def _read_children(self, element: Any, depth: int, found: dict[str, Any]) -> None:
        repeated: set[str] = set()
        for child in element:
            name = _name(child)
            value = self.read(child, depth + 1, is_struct=name in self._structs)
            if name in self._lists and name not in repeated:
                found[name] = [value]
            elif name in repeated:
                found[name].append(value)
            elif name in found:
                found[name] = [found[name], value]
            else:
                found[name] = value
                continue
            repeated.add(name)


def _name(node: Any) -> str:
    if not isinstance(node.tag, str):
        raise PermanentError("the document refers to an entity, which is not read")
    local = etree.QName(node).localname
    return f"{node.prefix}:{local}" if node.prefix else str(local)


def _attributes(element: Any) -> dict[str, str]:
    """Return the attributes by name, with the prefix as it is written; without that which says that it is nil."""
    prefixes = {uri: prefix for prefix, uri in element.nsmap.items() if prefix}
    prefixes["http://www.w3.org/XML/1998/namespace"] = "xml"
    found = {}
    for key, value in element.attrib.items():
        name = etree.QName(key)
        if key != _NIL:
            found[f"{prefixes[name.namespace]}:{name.localname}" if name.namespace else name.localname] = value
    return found


# -- writing -----------------------------------------------------------------------------------------------------------


def _write_fields(element: Any, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if name.startswith(_ATTRIBUTE):
            if value is not None:
                element.set(name[1:], _text(value, name))
        elif name == _TEXT:
            element.text = _text(value, name) if value is not None else None
        elif isinstance(value, list):
            for item in value:
                _write(element, name, item)
        else:
            _write(element, name, value)


def _write(parent: Any, name: str, value: Any) -> None:
    if value is None:
        etree.SubElement(parent, name, {_NIL: "true"}, nsmap={"xsi": _XSI})
    elif isinstance(value, dict):
        _write_fields(etree.SubElement(parent, name), value)
    else:
        etree.SubElement(parent, name).text = _text(value, name)


_SPECIAL = {"nan": "NaN", "inf": "INF", "-inf": "-INF"}
_TEXTS: dict[type, Callable[[Any], str]] = {
    str: str,
    bool: lambda value: "true" if value else "false",
    int: str,
    float: lambda value: repr(value) if math.isfinite(value) else _SPECIAL[repr(value)],
    Decimal: lambda value: f"{value:f}",
    bytes: lambda value: base64.b64encode(value).decode(),
    date: date.isoformat,
}


def _text(value: Any, name: str) -> str:
    """Return a value as XML Schema writes it."""
    if isinstance(value, Moment):
        return _moment(value.ns)
    write = _TEXTS.get(type(value))
    if write is None:
        raise PermanentError(f"column {name!r} has {type(value).__name__}s where XML has texts only")
    return write(value)


def _moment(ns: int) -> str:
    seconds, rest = divmod(ns, 10**9)
    try:
        whole = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise PermanentError("a time is outside of the years 1 to 9999") from error
    fraction = f".{rest:09}".rstrip("0").rstrip(".")
    return f"{whole:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + f"{fraction}Z"
