"""Peers that are Python packages: an environment of their own, made when asked for with ``--peers``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from . import cache
from .case import Sample, Unavailable

PACKAGES = ("bytewax==0.21.1", "orjson")
_PYTHON = "3.11"


def python() -> Path:
    """Return the interpreter of the environment; raises Unavailable."""
    found = _folder() / "bin" / "python"
    if not found.exists():
        raise Unavailable("the peers are not installed; install them with: python -m benchmarks --peers")
    return found


def install() -> None:
    """Make the environment and install the peers; raises Unavailable when that cannot be done."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}" == _PYTHON
    interpreter = sys.executable if own else shutil.which(f"python{_PYTHON}")
    if interpreter is None:
        raise Unavailable(f"python{_PYTHON} is not installed, which the peers need")
    try:
        subprocess.run([interpreter, "-m", "venv", "--clear", str(_folder())], check=True)
        subprocess.run([str(python()), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(_folder(), ignore_errors=True)
        raise Unavailable(f"the peers cannot be installed: {error}") from error


def measure(peer: str, job: str, source: Path, target: Path) -> Sample:
    """Run a job in a peer, in the peer's own process."""
    script = Path(__file__).with_name("peer_jobs.py")
    command = [str(python()), str(script), peer, job, str(source), str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Sample(**json.loads(done.stdout.splitlines()[-1]))


def _folder() -> Path:
    return cache.folder() / ".venv-peers"


KNOWN = {
    "job1": {"quixstreams 3.28": 0.48, "Pathway 0.33": 0.34, "Spark 4.3 Structured Streaming": 0.33},
    "job2": {"quixstreams 3.28": 0.04, "Pathway 0.33": 0.17, "Spark 4.3 Structured Streaming": 0.23},
}
"""Million rows a second that were measured on another day, on a machine of the same kind."""
