"""The example of a plugin is installed as a stranger would, found by its types, and passes its own tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("plugin") / "plugin"
    target = tmp_path_factory.mktemp("installed")
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("__pycache__", "dist"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    run(*pip, "--no-deps", "--no-build-isolation", "--target", str(target), str(source))
    return target


def run(*command: str, path: Path | None = None, directory: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else dict(os.environ)
    done = subprocess.run(
        command, env=environment, cwd=directory, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_components_are_found_by_their_types(installed: Path) -> None:
    program = """
from penstock.component import Input, Processor
assert "countdown" in Input.names()
print(Input.find("countdown").__module__, Processor.parse({"type": "redact", "columns": ["name"]}).text)
"""
    assert run(sys.executable, "-c", program, path=installed) == "penstock_example.countdown ***\n"


@pytest.mark.slow
def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(PLUGIN / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PLUGIN / "pyproject.toml", tmp_path)
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    summary = run(*pytest_command, path=installed, directory=tmp_path).splitlines()[-1]
    assert "passed" in summary
    assert "failed" not in summary


def test_its_types_are_unknown_where_it_is_not_installed() -> None:
    program = "from penstock.component import Input\nInput.find('countdown')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert "no input is called 'countdown'" in done.stderr
