"""The configuration that ``penstock init`` writes."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ..errors import PenstockError


def write_starter(file: Path) -> None:
    """Write the starter; raises PenstockError if the file is there or cannot be written."""
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise PenstockError(f"expected a file that ends in .yaml, not {file}")
    text = files(__package__).joinpath("starter.yaml").read_text()
    try:
        with file.open("x") as target:
            target.write(text)
    except FileExistsError as error:
        raise PenstockError(f"{file} is there already; choose another name: penstock init other.yaml") from error
    except OSError as error:
        raise PenstockError(f"{file} cannot be written: {error.strerror}") from error
