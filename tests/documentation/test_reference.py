"""The reference pages are generated, complete and up to date, and no link in the documentation leads nowhere."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, SecretStr

from penstock.component import Codec, Input, Processor
from penstock.config import reference
from penstock.duration import Duration
from penstock.options import Options

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "reference"


def test_the_pages_are_up_to_date():
    assert reference.stale(PAGES, reference.pages()) == [], "run `make reference`"


def test_every_component_has_a_page_and_an_entry():
    pages = reference.pages()
    for kind in reference.KINDS:
        for name in reference.shipped(kind):
            assert f"{kind._package}/{name}.md" in pages
            assert f"({kind._package}/{name}.md)" in pages["index.md"]
            assert f"({name}.md)" in pages[f"{kind._package}/index.md"]


def test_check_finds_what_is_missing_outdated_or_left_over(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference, "pages", lambda: {"index.md": "one\n", "inputs/a.md": "two\n"})
    assert reference.main([str(tmp_path), "--check"]) == 1
    assert "index.md is stale" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert reference.main([str(tmp_path)]) == 0
    assert (tmp_path / "inputs/a.md").read_text() == "two\n"
    assert reference.main([str(tmp_path), "--check"]) == 0
    (tmp_path / "left-over.md").write_text("three\n")
    (tmp_path / "index.md").write_text("changed\n")
    assert reference.stale(tmp_path, reference.pages()) == ["index.md", "left-over.md"]
    assert reference.main([str(tmp_path)]) == 0
    assert reference.stale(tmp_path, reference.pages()) == []


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Login(Options):
    """Who asks."""

    user: str = ""
    """The name."""
    password: SecretStr | None = None
    """The password."""


class Everything(Input):
    """Has options of every kind."""

    colour: Colour = Colour.RED
    """A colour."""
    mode: Literal["a", "b", 1] | None = None
    """One of a few."""
    login: Login = Login()
    """Who | what."""
    pause: Duration = 0.25
    """How long."""
    perhaps: Duration | None = 90.0
    """How long, if at all."""
    share: float = Field(0.5, ge=0, lt=1)
    """A part."""
    numbers: dict[str, list[int]] = {}
    """Numbers by name."""
    steps: list[Processor] = []
    """What is done."""
    inner: Codec
    """What is inside."""
    path: Path = Path("a/b")
    """Where."""


@pytest.mark.parametrize(
    "row",
    [
        "| `inner` | [codec](../codecs/index.md) | **required** | What is inside. |",
        "| `colour` | `red` or `blue` | `red` | A colour. |",
        "| `mode` | `a`, `b` or `1` |  | One of a few. |",
        "| `pause` | duration | `250ms` | How long. |",
        "| `perhaps` | duration | `90s` | How long, if at all. |",
        "| `share` | number ≥ 0, < 1 | `0.5` | A part. |",
        "| `numbers` | mapping to list of integer | `{}` | Numbers by name. |",
        "| `steps` | list of [processor](../processors/index.md) | `[]` | What is done. |",
        "| `path` | path | `a/b` | Where. |",
        "| `password` | secret text |  | The password. |",
    ],
)
def test_options_are_described_in_words(row):
    assert row in "\n".join(reference._option_sections(Everything))


def test_nested_options_have_a_table_of_their_own():
    text = "\n".join(reference._option_sections(Everything))
    assert "| `login` | [Login](#login) |" in text
    assert "Who \\| what." in text
    assert "### Login\n\nWho asks.\n" in text


def test_a_docstring_is_taken_apart():
    class Sample(Options):
        """Do a thing.

        More about it::

            not the example

        And more.

        Example::

            type: sample

            list:
              - 1
        """

    found = reference.describe(Sample)
    assert found.summary == "Do a thing."
    assert found.prose.endswith("And more.")
    assert found.example == "type: sample\n\nlist:\n  - 1"


def test_links_lead_somewhere():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]:
        text = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in target and not target.startswith("mailto:"):
                assert (document.parent / target).exists(), f"{document.relative_to(ROOT)} links to {target}"
