"""Server programs that are built from Go modules, once, and kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
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


def build(module: str, version: str) -> None:
    """Build the program of ``module``; raises ServerMissing with the reason if that cannot be done."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise ServerMissing(f"there is no Go here to build {module} with: see https://go.dev/doc/install")
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:  # so that nobody finds half a program
        environment = {**os.environ, "GOBIN": temporary, "GOFLAGS": "-mod=mod"}
        command = [go, "install", f"{module}@{version}"]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, timeout=BUILD_TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise ServerMissing(f"{module} was not built within {BUILD_TIMEOUT:g} s") from None
        if done.returncode != 0:
            raise ServerMissing(f"{module} could not be built: {done.stderr.decode(errors='replace').strip()[-500:]}")
        os.replace(Path(temporary) / _name(module), built(module, version))


def _name(module: str) -> str:
    """Return the name that Go gives the program of a module: its last part, leaving out the version."""
    parts = module.split("/")
    return parts[-2] if parts[-1][:1] == "v" and parts[-1][1:].isdigit() else parts[-1]
