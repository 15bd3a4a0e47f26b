"""Says what to do where a script is run by a Python that has none of the project's packages."""

from __future__ import annotations

import importlib.util
import sys


def require_packages() -> None:
    """End the script with the command that it should have been, unless the packages are there."""
    if importlib.util.find_spec("orjson") is None:
        said = f"{sys.executable} has none of the project's packages. Run scripts/setup, then"
        sys.exit(f"{said} .venv/bin/python {' '.join(sys.argv)}")
