"""The component standard, as far as it can be checked, over every component that is shipped.

The numbers are those of the clauses in CONTRIBUTING.md.
"""

import ast
import asyncio
import functools
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import jsonschema
import pytest
from pydantic import BaseModel, SecretStr, TypeAdapter
from ruamel.yaml import YAML

from penstock.application import Application
from penstock.component import Component, Input, Output, Temporary
from penstock.config.reference import KINDS, aliases, describe, shipped
from penstock.config.schema import json_schema
from penstock.errors import ConnectionLost
from penstock.testing.contexts import lend_context

TESTS = Path(__file__).parents[1]

WAIVERS: dict[str, dict[str, str]] = {}
"""Component -> check -> why it is excused. An entry that is no longer needed fails: this table only shrinks."""

CHECKS: dict[str, Callable[[type[Component], str, Path], None]] = {}
COMPONENTS = [(kind, name) for kind in KINDS for name in shipped(kind)]

SUITES = {kind: f"{kind.__name__}Suite" for kind in KINDS}
SECRET = re.compile(r"(^|_)(password|passphrase|token|secret|api_key|secret_access_key|private_key)$")
ELSEWHERE = re.compile(r"(?!file|memory)\b[a-z0-9+]+://(?!127\.0\.0\.1|localhost|\[::1\])")


def check(function: Callable[[type[Component], str, Path], None]) -> Callable[[type[Component], str, Path], None]:
    CHECKS[function.__name__] = function
    return function


def example(kind: type[Component], name: str) -> Any:
    text = describe(kind.find(name)).example
    assert text, f"the docstring of {name!r} has to end in `Example::` and an indented YAML block"
    return YAML(typ="safe").load(text)


def models(model: type[BaseModel], seen: set[type[BaseModel]] | None = None) -> Iterator[type[BaseModel]]:
    """The model and all option models that its fields lead to, other components aside."""
    seen = set() if seen is None else seen
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel) and not issubclass(part, Component):
                yield from models(part, seen)


def parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from parts(inner)


def is_tag(annotation: Any) -> bool:
    """Whether only one value is possible, which tells the models of a union apart."""
    return get_origin(annotation) is Literal and len(get_args(annotation)) == 1


@check
def names_follow_the_rule(kind: type[Component], name: str, tmp_path: Path) -> None:
    """1.1 and 1.2: the type is the file's name in lower_snake_case, the class the same in CamelCase."""
    component = kind.find(name)
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)
    assert component.type_name == name
    assert component.__name__.lower() == name.replace("_", "")
    folder = f"apps.{name}" if kind is Application else f"{kind._package}.{name}"
    assert component.__module__.startswith(f"penstock.{folder}")


@check
def modules_say_what_they_are_for(kind: type[Component], name: str, tmp_path: Path) -> None:
    """8.1: the module docstring is one sentence (and more, if need be)."""
    module = kind.find(name).__module__ if kind is Application else f"penstock.{kind._package}.{name}"
    document = inspect.getdoc(importlib.import_module(module))
    assert document
    assert document.partition("\n\n")[0].rstrip().endswith(".")


@check
def the_first_line_is_a_catalogue_entry(kind: type[Component], name: str, tmp_path: Path) -> None:
    """8.2: one line, a sentence, of its own and not inherited."""
    component = kind.find(name)
    assert component.__doc__ != kind.__doc__
    summary = describe(component).summary
    assert summary.endswith(".")
    assert len(summary) <= 120
    assert summary[0].isupper()


@check
def every_option_is_documented(kind: type[Component], name: str, tmp_path: Path) -> None:
    """8.3: a docstring under each field, also of nested options."""
    missing = [
        f"{model.__name__}.{option}"
        for model in models(kind.find(name))
        for option, field in model.model_fields.items()
        if option not in model.describe_fields() and not is_tag(field.annotation)
    ]
    assert missing == []


@check
def option_names_follow_the_rule(kind: type[Component], name: str, tmp_path: Path) -> None:
    """2.1: options are lower_snake_case."""
    wrong = [
        option
        for model in models(kind.find(name))
        for option, field in model.model_fields.items()
        if not re.fullmatch(r"[a-z][a-z0-9_]*", field.alias or option)
    ]
    assert wrong == []


@check
def secrets_are_secret(kind: type[Component], name: str, tmp_path: Path) -> None:
    """6.1: what is secret by its name has a type that never prints it."""
    open_ones = [
        f"{model.__name__}.{option}"
        for model in models(kind.find(name))
        for option, field in model.model_fields.items()
        if SECRET.search(option) and not any(part is SecretStr for part in parts(field.annotation))
    ]
    assert open_ones == []


@check
def the_schema_is_json_schema(kind: type[Component], name: str, tmp_path: Path) -> None:
    """2.2: editors can check the options."""
    schema = kind.find(name).model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False


@check
def the_example_is_valid(kind: type[Component], name: str, tmp_path: Path) -> None:
    """8.4: the docstring ends in an example of this component."""
    value = example(kind, name)
    assert (value if isinstance(value, str) else value["type"]) == name
    assert isinstance(kind.parse(value), kind.find(name))


@check
def it_can_be_dumped_and_parsed_again(kind: type[Component], name: str, tmp_path: Path) -> None:
    """2.3: a component is a value, so what is dumped is the configuration again."""
    component = kind.parse(example(kind, name))
    adapter = TypeAdapter(kind)
    dumped = json.loads(adapter.dump_json(component))
    if "**********" not in json.dumps(dumped):  # what is secret is not dumped
        assert adapter.validate_python(dumped) == component


@functools.cache
def schema() -> dict[str, Any]:
    return json_schema()


@check
def the_example_matches_the_schema(kind: type[Component], name: str, tmp_path: Path) -> None:
    """2.2: what an editor checks is what the parser accepts."""
    whole = {"$ref": f"#/$defs/{kind._package}", "$defs": schema()["$defs"]}
    jsonschema.Draft202012Validator(whole).validate(json.loads(json.dumps(example(kind, name), default=str)))


@check
def the_example_opens(kind: type[Component], name: str, tmp_path: Path) -> None:
    """4.1: where nothing else is needed it opens; where a source or server is not there, that is ConnectionLost."""
    component: Any = kind.parse(example(kind, name))
    if kind is Application:  # opened with a platform, by the tests of each
        return
    if not hasattr(component, "open") or ELSEWHERE.search(describe(kind.find(name)).example):
        return

    async def open_once() -> None:
        async with lend_context(tmp_path / "penstock-data") as context, asyncio.timeout(60):
            # a processor or a buffer needs nothing but itself
            allowed = suppress(ConnectionLost) if kind in (Input, Temporary, Output) else nullcontext()
            with allowed:
                async with component.open(context):
                    pass

    asyncio.run(open_once())


@check
def it_has_a_conformance_suite(kind: type[Component], name: str, tmp_path: Path) -> None:
    """7.1: its test module subclasses the suite of its kind."""
    if kind is Application:  # what all applications have in common is tested in tests/platform
        return
    camel = kind.find(name).__name__
    for module in sorted((TESTS / kind._package).rglob("test_*.py")):
        classes = {
            node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
            for node in ast.walk(ast.parse(module.read_text()))
            if isinstance(node, ast.ClassDef)
        }
        named = re.fullmatch(rf"test_{name}(_.*)?", module.stem) or module.parent.name == name
        shared = any(found.startswith(f"Test{camel}") for found in classes)
        if (named or shared) and any(SUITES[kind] in bases for bases in classes.values()):
            return
    raise AssertionError(f"no class in tests/{kind._package}/test_{name}.py subclasses {SUITES[kind]}")


@pytest.mark.parametrize(("kind", "name"), COMPONENTS, ids=[f"{kind._package}/{name}" for kind, name in COMPONENTS])
@pytest.mark.parametrize(
    "rule",  # a server that is not there is waited for
    [pytest.param(rule, marks=pytest.mark.slow) if rule == the_example_opens.__name__ else rule for rule in CHECKS],
)
def test_components_keep_the_standard(kind, name, rule, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reason = WAIVERS.get(f"{kind._package}/{name}", {}).get(rule)
    if reason is None:
        CHECKS[rule](kind, name, tmp_path)
        return
    try:
        CHECKS[rule](kind, name, tmp_path)
    except Exception:
        return
    pytest.fail(f"the waiver of {rule} for {kind._package}/{name} is stale: remove it")


def test_waivers_name_components_and_checks_that_exist():
    known = {f"{kind._package}/{name}" for kind, name in COMPONENTS}
    assert set(WAIVERS) <= known
    assert {rule for rules in WAIVERS.values() for rule in rules} <= set(CHECKS)
    assert all(reason for rules in WAIVERS.values() for reason in rules.values())


@pytest.mark.parametrize("kind", KINDS, ids=[kind._package for kind in KINDS])
def test_aliases_stand_for_components_that_exist(kind):
    for alias, (name, options) in aliases(kind).items():
        assert alias not in shipped(kind), "an alias would hide this component"
        fields = kind.find(name).model_fields
        assert set(options) <= set(fields)


def test_every_clause_that_is_checked_is_in_the_standard():
    standard = (TESTS.parent / "CONTRIBUTING.md").read_text()
    for function in CHECKS.values():
        for clause in re.findall(r"\d+\.\d+", (function.__doc__ or "").partition(":")[0]):
            assert f"**{clause}**" in standard


def test_components_are_found_for_each_kind():
    assert {"generate", "memory"} <= set(shipped(Input))
