"""The command line, as ``penstock`` and as ``python -m penstock``."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line, or say which extra brings the packages that it needs."""
    # What is imported stays, so that looking for garbage in between finds none: a tenth of each start.
    gc.set_threshold(50_000, 20, 100)
    # Arrow imports NumPy, whose algebra would start a thread for each processor; streams are parallel by themselves.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from .cli import main as run
    except ModuleNotFoundError as missing:
        from .extras import MissingPackage

        sys.exit(str(MissingPackage(str(missing.name), "the command line")))
    run()


if __name__ == "__main__":
    main()
