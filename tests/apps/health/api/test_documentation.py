from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import pytest

from penstock.apps.health.api import app, documentation
from penstock.apps.health.settings import Settings

from .reader import MODULES, Reader, reading


@pytest.fixture
async def reader(settings: Settings) -> AsyncIterator[Reader]:
    """The API on SQLite."""
    async with reading(settings) as found:
        yield found


class Page(HTMLParser):
    """Collects what a page refers to, and sees whether its tags match."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src", "action"):
                self.found.append((tag, value or ""))
            if name == "id" and value:
                self.anchors.add(value)


async def test_the_page_says_all_there_is_without_another_server(reader: Reader) -> None:
    answer = await reader.served.client.get("/api/v1/docs", headers={"authorization": ""})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Page()
    page.feed(answer.text)
    for tag, target in page.found:
        assert tag == "a"
        assert target == documentation.SCHEMA or target.removeprefix("#") in page.anchors, target
    assert "<script" not in answer.text
    schema = (await reader.served.client.get(documentation.SCHEMA)).json()
    for path in schema["paths"]:
        assert f"<code>{path}</code>" in answer.text, path


async def test_every_operation_is_described(reader: Reader) -> None:
    schema = (await reader.served.client.get(documentation.SCHEMA)).json()
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            if not path.startswith(("/api/v1/metrics", "/api/v1/data", "/api/v1/workouts", "/api/v1/user")):
                continue
            assert operation["description"], (method, path)
            assert {"200", "400", "401", "403", "404", "429", "503"} <= set(operation["responses"]), (method, path)
            for parameter in operation.get("parameters", ()):
                assert (
                    set(parameter["schema"]) & {"pattern", "maximum", "enum", "maxLength"}
                    or parameter["schema"].get("type") == "boolean"
                ), (path, parameter)


def test_texts_of_a_schema_are_no_markup() -> None:
    evil = "<script>alert(1)</script>"
    operation = {
        "description": f"{evil}\n\n{evil} `a<b`",
        "parameters": [
            {"name": evil, "in": evil, "schema": {"type": evil, "pattern": evil, "enum": [evil]}, "description": evil}
        ],
        "requestBody": {"content": {evil: {"schema": {"$ref": f"#/{evil}"}}}},
        "responses": {evil: {"description": evil, "content": {evil: {"schema": {"type": "array"}}}}},
    }
    schema = {
        "info": {"title": evil},
        "paths": {f"/{evil}": {"get": operation}},
        "components": {"schemas": {evil: {"description": evil, "properties": {evil: {"type": evil}}}}},
    }
    page = documentation.written(schema)
    assert "<script" not in page
    assert "<code>a&lt;b</code>" in page
    assert not re.search(r"(href|id)='[^']*<", page)


def test_all_modules_that_read_are_served() -> None:
    assert set(MODULES) <= set(app.MODULES)
