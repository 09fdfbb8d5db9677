"""Type checkers see the contract as people do."""

import subprocess
import sys
from pathlib import Path

import pytest

import penstock

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_contract_and_plugins_pass_strict_type_checks() -> None:
    checked = [
        str(ROOT / path) for path in ("tests/typing/contract.py", "examples/plugin/src", "examples/application/src")
    ]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *checked], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_public_names_are_sorted_documented_and_few() -> None:
    assert penstock.__all__ == sorted(penstock.__all__)
    assert len(penstock.__all__) <= 40
    undocumented = [
        name for name in penstock.__all__ if callable(getattr(penstock, name)) and not getattr(penstock, name).__doc__
    ]
    assert undocumented == []
