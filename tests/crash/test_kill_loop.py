"""The short forms of `scripts/killloop` and `scripts/memory`, as they are run by hand with larger figures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"

SHORT = ("--records", "1500", "--kills", "4", "--workers", "50")

pytestmark = pytest.mark.slow


def script(name: str, *flags: str) -> str:
    """The output of a script, which must be content with what it saw."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / name, *flags], capture_output=True, text=True, timeout=55
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("signal", ["KILL", "INT"])
def test_a_run_that_is_ended_again_and_again_loses_and_repeats_nothing(signal: str) -> None:
    """Four times killed at random moments: each record once, each line whole, hardly a request too many."""
    said = script("killloop", *SHORT, "--signal", signal)
    most = 1_500 + (4 * 50 if signal == "KILL" else 0)
    verdict = said.splitlines()[-1]
    assert re.fullmatch(rf"lost 0, repeated 0, damaged 0, requests \d+ of at most {most}", verdict)


def test_a_record_more_costs_next_to_no_memory() -> None:
    """The peaks of a small and of a larger run; most of what is between them is noise of two processes."""
    assert "bytes a record" in script("memory", "--few", "1000", "--many", "12000", "--limit", "300")
