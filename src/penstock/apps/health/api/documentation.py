"""The OpenAPI page: what the service can be asked, readable without any script or resource of another server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec

from ....platform.web.parameters import known_parameters

PATH = "/api/v1/docs"
SCHEMA = "/api/v1/openapi.json"
METHODS = ("get", "post", "put", "patch", "delete", "head", "options")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #8881; --get: #1a7f4b; --write: #a15c00; --drop: #c02626 }
@media (prefers-color-scheme: dark) { :root { --get: #57c98a; --write: #e0a04a; --drop: #f08080 } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
nav ul { columns: 20rem; padding-left: 1rem } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line) }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .5rem 0; padding: .5rem .8rem }
summary { cursor: pointer } code, pre { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
pre { background: var(--faint); padding: .6rem; overflow: auto; white-space: pre-wrap }
b.get { color: var(--get) } b.post, b.put, b.patch { color: var(--write) } b.delete { color: var(--drop) }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .3rem .6rem;
border-top: 1px solid var(--line) } small { opacity: .75 }
"""


@get(
    PATH,
    opt={"public": True},
    security=[{}],
    before_request=known_parameters,
    media_type="text/html",
    responses={200: ResponseSpec(str, generate_examples=False, description="The page.", media_type="text/html")},
)
async def page(request: Request[Any, Any, Any]) -> Response[Any]:
    """Show what the service can be asked, made from its OpenAPI document."""
    state, schema = request.app.state, request.app.openapi_schema
    if not hasattr(state, "documentation"):
        state.documentation = await asyncio.to_thread(lambda: written(schema.to_schema()))
    headers = {"content-security-policy": POLICY, "cache-control": "public, max-age=300"}
    return Response(state.documentation, media_type="text/html", headers=headers)


def written(schema: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    groups: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, item in sorted(schema.get("paths", {}).items()):
        for method in METHODS:
            if method in item:
                groups.setdefault(_group(path), []).append((path, method, item[method]))
    info = schema.get("info", {})
    title = escape(str(info.get("title", "API")))
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"]
    parts.append("<meta name=viewport content='width=device-width, initial-scale=1'>")
    parts.append(f"<style>{_STYLE}</style><h1>{title}</h1>")
    parts.append("<p>Send your key with each request: <code>Authorization: Bearer pen_...</code>, or the header ")
    parts.append(f"<code>X-API-Key</code>. For programs: <a href='{SCHEMA}'>OpenAPI document</a>.</p><nav><ul>")
    parts += [
        f"<li><a href='#{_anchor(name)}'>{escape(name)}</a> <small>{len(groups[name])}</small>" for name in groups
    ]
    parts.append("</ul></nav>")
    for name, operations in groups.items():
        parts.append(f"<h2 id='{_anchor(name)}'>{escape(name)}</h2>")
        parts += [piece for operation in operations for piece in _operation(*operation)]
    parts += _schemas(schema.get("components", {}).get("schemas", {}))
    return "".join(parts)


def _group(path: str) -> str:
    words = [word for word in path.split("/") if word not in ("", "api", "v1")]
    return words[0] if words else "/"


def _anchor(name: str) -> str:
    return re.sub("[^A-Za-z0-9]+", "-", name)


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    text = str(operation.get("description") or operation.get("summary") or "")
    first, _, rest = text.partition("\n\n")
    yield f"<details><summary><b class={method}>{method.upper()}</b> <code>{escape(path)}</code> "
    yield f"{_prose(first)}</summary>"
    yield from (f"<p>{_prose(paragraph)}</p>" for paragraph in rest.split("\n\n") if paragraph)
    if parameters := operation.get("parameters"):
        yield "<table><tr><th>Parameter<th>What it may be<th>Meaning"
        yield from (_parameter(parameter) for parameter in parameters)
        yield "</table>"
    if body := operation.get("requestBody"):
        yield from (
            f"<p>Body, <code>{escape(kind)}</code>: {_type(content.get('schema', {}))}</p>"
            for kind, content in body.get("content", {}).items()
        )
    yield "<table><tr><th>Answer<th>What it is<th>Meaning"
    for status, response in operation.get("responses", {}).items():
        kinds = [
            f"<code>{escape(kind)}</code> {_type(content.get('schema', {}))}"
            for kind, content in (response.get("content") or {}).items()
        ]
        yield f"<tr><td>{escape(str(status))}<td>{'<br>'.join(kinds)}<td>{_prose(str(response.get('description', '')))}"
    yield "</table></details>"


def _prose(text: str) -> str:
    return re.sub("``?([^`]+)``?", r"<code>\1</code>", escape(text))


def _parameter(parameter: Mapping[str, Any]) -> str:
    schema = parameter.get("schema", {})
    needed = " <small>required</small>" if parameter.get("required") else ""
    where = escape(str(parameter.get("in", "")))
    meaning = _prose(str(parameter.get("description") or ""))
    name = f"<code>{escape(parameter['name'])}</code> <small>{where}</small>{needed}"
    return f"<tr><td>{name}<td>{_type(schema)}<td>{meaning}"


_READABLE = 60
"""A longer pattern says nothing to a person; the description does."""
_LIMITS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {}",
    "pattern": "<code>{}</code>",
    "format": "{}",
    "default": "default {}",
}


def _type(schema: Mapping[str, Any]) -> str:
    """Say in words what a schema allows."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"<a href='#schema-{_anchor(name)}'>{_short(name)}</a>"
    choices = schema.get("oneOf") or schema.get("anyOf") or []
    named = [_type(choice) for choice in choices if choice.get("type") != "null"]
    if "enum" in schema:
        named = [" | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])]
    elif schema.get("type") == "array":
        named = [f"list of {_type(schema.get('items', {})) or 'anything'}"]
    elif not named and "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        named = [escape(" or ".join(str(kind) for kind in kinds))]
    limits = [
        text.format(escape(f"{schema[key]:g}" if isinstance(schema[key], float) else str(schema[key])))
        for key, text in _LIMITS.items()
        if schema.get(key) is not None and len(str(schema[key])) <= _READABLE
    ]
    return ", ".join([" or ".join(named), *limits] if named else limits)


def _short(name: str) -> str:
    """Return the name of a schema without the modules it is from."""
    return escape(re.sub(r"(?:[a-z][a-z0-9_]*\.)+", "", name).rstrip("_"))


def _schemas(schemas: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if schemas:
        yield "<h2 id=schemas>Schemas</h2>"
    for name, schema in sorted(schemas.items()):
        yield f"<details id='schema-{_anchor(name)}'><summary><code>{_short(name)}</code> "
        yield f"{_prose(str(schema.get('description') or ''))}</summary><table>"
        for field, of in schema.get("properties", {}).items():
            yield f"<tr><td><code>{escape(field)}</code><td>{_type(of)}<td>{_prose(str(of.get('description') or ''))}"
        yield f"</table>{_type(schema) if 'enum' in schema else ''}</details>"


ROUTES: list[Any] = [page]
