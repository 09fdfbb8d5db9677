"""``python -m penstock.testing.servers install``: install the server programs that are missing."""

from __future__ import annotations

import argparse
import sys

from . import __doc__ as description
from . import install

parser = argparse.ArgumentParser(prog="python -m penstock.testing.servers", description=description)
parser.add_argument("command", choices=["install"], help="install: install the server programs that are missing")
parser.parse_args()
sys.exit(install())
