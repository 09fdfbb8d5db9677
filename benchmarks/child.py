"""One sample of one case, in a process of its own: ``python -m benchmarks.child NAME FOLDER`` prints JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from .cases import CASES


def main() -> None:
    name, folder = sys.argv[1:]
    sample = CASES[name].measure(Path(folder))
    print("\n" + json.dumps(asdict(sample)))


if __name__ == "__main__":
    main()
