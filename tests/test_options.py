"""Options: what is written of them in a configuration, and how their fields are described."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

from pydantic import Field

from penstock.options import Options


class Near(Options):
    """A base."""

    kind: Literal["near"] = "near"
    distance: int = 1
    """How far
    it is."""
    unsaid: int = 2


class Far(Near):
    """What extends it."""

    """A text that belongs to no field."""
    distance: int = 9
    """How far it is, at most."""
    angle: float = Field(0, alias="angel", description="Said by the field.")
    """Said below."""
    near: Near = Near()
    """Another."""

    def method(self) -> None:
        """Do nothing."""


def test_fields_are_described_by_the_docstrings_below_them() -> None:
    assert Near.describe_fields() == {"distance": "How far\nit is."}
    assert Far.describe_fields() == {
        "distance": "How far it is, at most.",
        "angle": "Said by the field.",
        "near": "Another.",
    }
    schema = Far.model_json_schema()
    assert schema["properties"]["distance"]["description"] == "How far it is, at most."
    assert schema["properties"]["angel"]["description"] == "Said by the field."
    assert schema["properties"]["near"]["description"] == "Another."
    assert schema["$defs"]["Near"]["properties"]["distance"]["description"] == "How far\nit is."
    assert "description" not in schema["properties"]["unsaid"]


def test_fields_of_a_class_inside_a_function_are_described() -> None:
    class Inner(Options):
        deep: int = 1
        """Deep."""

    assert Inner.describe_fields() == {"deep": "Deep."}


def test_a_class_without_source_has_no_descriptions() -> None:
    code = (
        "from penstock.options import Options\n"
        "class Typed(Options):\n    n: int = 1\n    'A number.'\n"
        "assert Typed.describe_fields() == {}, Typed.describe_fields()\n"
        "assert Typed(n=2).n == 2\n"
        "assert 'n' in Typed.model_json_schema()['properties']\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
