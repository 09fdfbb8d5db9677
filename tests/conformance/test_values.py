"""A configuration is a value: what is dumped is the configuration again."""

import json
from typing import Literal

import pytest
from pydantic import TypeAdapter

from penstock.component import Input
from penstock.duration import Duration, seconds, written
from penstock.options import Options


class Basic(Options):
    """By name."""

    type: Literal["basic"] = "basic"
    name: str


class Bearer(Options):
    """By token."""

    type: Literal["bearer"] = "bearer"
    name: str


class Guarded(Input, type="values_guarded"):
    """Has a choice of options."""

    login: Basic | Bearer
    pause: Duration = 1.0
    most: int | None = 5


def dumped(component: Input) -> dict[str, object]:
    value: dict[str, object] = json.loads(TypeAdapter(Input).dump_json(component))
    return value


def test_what_tells_a_union_apart_is_dumped_though_nobody_set_it():
    component = Guarded(login=Bearer(name="a"))
    assert dumped(component) == {"type": "values_guarded", "login": {"type": "bearer", "name": "a"}}
    assert Input.parse(dumped(component)) == component


def test_nothing_instead_of_a_default_is_dumped():
    component = Guarded(login=Basic(name="a"), most=None)
    assert dumped(component)["most"] is None
    assert Input.parse(dumped(component)) == component


@pytest.mark.parametrize("text", ["10ms", "1s", "1h30m", "250us", "7ns", "2w", "0s", "1.5h"])
def test_durations_are_dumped_with_a_unit_and_read_again(text):
    component = Guarded(login=Basic(name="a"), pause=text)
    assert Input.parse(dumped(component)) == component
    assert seconds(written(component.pause)) == component.pause


def test_a_broken_component_is_not_taken_for_a_missing_package(monkeypatch):
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'penstock.inputs.broken.part'", name="penstock.inputs.broken.part")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(ModuleNotFoundError, match=r"broken\.part"):
        Input.find("broken")


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    def lacking(name: str) -> None:
        raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")

    monkeypatch.setattr("importlib.import_module", lacking)
    with pytest.raises(ValueError, match=r"needs the package 'psycopg'.*penstock\[postgres\]"):
        Input.find("kafkaesque")
