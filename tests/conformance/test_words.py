"""Names and docstrings use the words of CONTRIBUTING: what can be held to mechanically is held to here."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "penstock"

FELT = re.compile(
    "(^|_)(PATIENCE|MOST|LONGEST|LARGEST|DEEPEST|LASTS|FRESH|OUTLASTS|REMEMBERED|TOLD|TOGETHER|AGAIN|PAUSE)(_|$)"
)
"""Parts of constants' names that have a standard word, as ``MAX_*``, ``*_TIMEOUT``, ``*_TTL`` and ``CACHE_SIZE``."""

PARTICIPLES = {"classified", "shown", "told", "kept", "held", "again", "chosen", "said", "masked", "suited", "fitted"}
"""Names that say the state of a result, where a function is called by the verb for what it does."""

PHRASES = re.compile(r"\bis no (?!longer|more|later|less|other)|\bso too\b", re.IGNORECASE)
"""Idiom that has to be read twice: write "is not a", and "the same for"."""

NO_VERBS = re.compile(
    r"(a|all|an|any|as|both|each|either|every|he|how|if|it|its|neither|nobody|none|nothing|of|one|only|several|so|some|that"
    r"|the|their|there|these|they|this|those|three|two|what|when|where|whether|which|while|who|whole|whose|why|with"
    r"|rows|values|names|batches|positions|true|false|no|good|halves)\b",
    re.IGNORECASE,
)
"""First words that cannot be a verb in the imperative."""


@functools.cache
def breaches() -> list[tuple[str, str]]:
    """Return the rule and the place of each breach in src."""
    return [
        (rule, f"{path.relative_to(ROOT)}:{line}: {what}")
        for path in sorted(ROOT.rglob("*.py"))
        for rule, line, what in inspect_tree(ast.parse(path.read_text()))
    ]


def inspect_tree(tree: ast.Module) -> Iterator[tuple[str, int, str]]:
    """Yield the rule, the line and the words of each breach in a module."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name) and FELT.search(target.id):
                    yield "constants", node.lineno, target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            if phrase := PHRASES.search(" ".join(node.value.value.split())):
                yield "phrases", node.lineno, phrase.group()
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not is_property(node):
            if node.name.strip("_") in PARTICIPLES:
                yield "functions", node.lineno, node.name
            line = (ast.get_docstring(node) or "Say").splitlines()[0]
            is_public = not node.name.startswith(("_", "test_"))
            if is_public and NO_VERBS.match(line):
                yield "first lines", node.lineno, f"{node.name}: {line}"


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether a function is read like an attribute, which is a noun and described by one."""
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


@pytest.mark.parametrize("rule", ["constants", "functions", "first lines", "phrases"])
def test_the_words_are_those_of_contributing(rule: str) -> None:
    found = [place for broken, place in breaches() if broken == rule]
    assert not found, "\n".join(found)


def test_each_rule_finds_what_breaks_it() -> None:
    text = '''
MOST_ROWS = 1
def shown():
    """Whether this is no sentence."""
@property
def kept():
    """The rows that are no longer needed."""
'''
    assert [(rule, what) for rule, _, what in inspect_tree(ast.parse(text))] == [
        ("constants", "MOST_ROWS"),
        ("functions", "shown"),
        ("first lines", "shown: Whether this is no sentence."),
        ("phrases", "is no "),
    ]
