"""The corpus is run by the command line, as its own tests do it."""

from __future__ import annotations

import sys
from pathlib import Path

COMMAND_LINE = str(Path(__file__).parents[1] / "cli")  # command_line.py

if COMMAND_LINE not in sys.path:
    sys.path.append(COMMAND_LINE)
