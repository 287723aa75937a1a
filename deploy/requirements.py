"""Prints the requirements in pyproject.toml and those of the extras named: an image installs them before the code.

Usage: python deploy/requirements.py [EXTRA ...]
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """The project's own requirements and those of `extras`.

    Raises:
        SystemExit: there is no such extra.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    optional = project["optional-dependencies"]
    if unknown := sorted(set(extras) - set(optional)):
        raise SystemExit(
            f"error: no extra {', '.join(unknown)} in {pyproject}; there are {', '.join(optional)}"
        )
    return [*project["dependencies"], *(each for extra in extras for each in optional[extra])]


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    found = next(
        folder / "pyproject.toml" for folder in (here, here.parent) if (folder / "pyproject.toml").is_file()
    )
    sys.stdout.write("\n".join(requirements(found, sys.argv[1:])) + "\n")
