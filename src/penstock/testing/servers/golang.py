"""Server programs that are built from Go modules, once, and kept in the user's cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .programs import INSTALL, ServerMissing

BUILD_TIMEOUT = 900.0
"""Seconds that fetching and compiling a module may take."""


def cache_folder() -> Path:
    """Return where programs are kept that were built or fetched for tests."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "penstock" / "servers"


def built(module: str, version: str) -> Path:
    """Return where the program of a module is kept."""
    return cache_folder() / f"{_name(module)}-{version}"


def find_built(what: str, module: str, version: str) -> Path:
    """Return the program that was built; raises ServerMissing, which calls it ``what``."""
    program = built(module, version)
    if not program.exists():
        raise ServerMissing(f"{what} ({program}) is not built; install it with: {INSTALL}")
    return program


def build(module: str, version: str, *, package: str = "", files: Mapping[str, str] | None = None) -> None:
    """Build the program of ``module``, or of a ``package`` in it; raises ServerMissing if that cannot be done.

    ``files`` are written into the source first: what the module's own tools would have generated.
    """
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise ServerMissing(f"there is no Go here to build {module} with: see https://go.dev/doc/install")
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:  # so that nobody finds half a program
        program = Path(temporary) / _name(module)
        if files is None:
            _run([go, "install", f"{module}@{version}"], module, GOBIN=temporary, GOFLAGS="-mod=mod")
        else:
            source = Path(temporary) / "source"
            found = json.loads(_run([go, "mod", "download", "-json", f"{module}@{version}"], module))
            shutil.copytree(found["Dir"], source, copy_function=shutil.copy)
            for path in (source, *source.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            for name, text in files.items():
                (source / name).write_text(text)
            _run([go, "build", "-C", str(source), "-o", str(program), f"./{package}"], module, GOFLAGS="-mod=mod")
        os.replace(program, built(module, version))


def _run(command: list[str], module: str, **environment: str) -> bytes:
    try:
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, timeout=BUILD_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise ServerMissing(f"{module} was not built within {BUILD_TIMEOUT:g} s") from None
    if done.returncode != 0:
        raise ServerMissing(f"{module} could not be built: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return done.stdout


def _name(module: str) -> str:
    """Return the name that Go gives the program of a module: its last part, leaving out the version."""
    parts = module.split("/")
    return parts[-2] if parts[-1][:1] == "v" and parts[-1][1:].isdigit() else parts[-1]
