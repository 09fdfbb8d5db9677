"""The command line, as ``penstock`` and as ``python -m penstock``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say which extra brings the packages that it needs."""
    try:
        from .cli import main as run
    except ModuleNotFoundError as missing:
        from .extras import MissingPackage

        sys.exit(str(MissingPackage(str(missing.name), "the command line")))
    run()


if __name__ == "__main__":
    main()
