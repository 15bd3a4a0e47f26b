"""The parts that other tests are made of are the parts of these, too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

for folder in ("client", "cli", "journal"):  # wire.py, command_line.py, journal_results.py
    if str(TESTS / folder) not in sys.path:
        sys.path.append(str(TESTS / folder))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 320 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = ["mount", "-t", "tmpfs", "-o", "size=320k", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(made, capture_output=True, check=False).returncode:
        pytest.skip("this test mounts a small disk, and that is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
