"""The short forms of `scripts/torture`, `scripts/soak` and `scripts/memory`; the long ones are for hand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"

pytestmark = pytest.mark.slow


def script(name: str, *flags: str) -> str:
    """The output of a script, which must be content with what it saw."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / name, *flags], capture_output=True, text=True, timeout=115
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def requests(said: str) -> tuple[int, int]:
    """From a verdict that is good: the requests sent, and at most."""
    verdict = re.fullmatch(
        r"lost 0, repeated 0, damaged 0, requests (\d+) of at most (\d+)", said.splitlines()[-1]
    )
    assert verdict is not None, said
    return int(verdict[1]), int(verdict[2])


@pytest.mark.timeout(120)
def test_nothing_that_happens_to_runs_loses_repeats_or_damages_anything() -> None:
    """Kills, signals, a full disk, few descriptors, bad servers, clock jumps, two runs, edits: each once."""
    said = script("torture", "--short", "--seed", "1")
    sent, most = requests(said)
    assert sent <= most
    for kind in ("kills-1", "drain", "disk", "fds", "slow", "lying", "clock", "two", "edited"):
        assert re.search(rf"^{kind} ", said, re.MULTILINE), said


@pytest.mark.timeout(120)
def test_a_run_that_is_interrupted_again_and_again_sends_nothing_twice() -> None:
    """Ctrl-C instead of SIGKILL: then not even what was on the wire is wasted."""
    said = script("torture", "--only", "kills", "--kills", "4", "--signal", "INT", "--seed", "2")
    sent, most = requests(said)
    assert sent == most


def test_an_engine_among_faults_grows_by_nothing_and_leaves_nothing() -> None:
    """Some seconds of the soak: memory, descriptors, tasks, threads."""
    said = script("soak", "--minutes", "0.1")
    assert "BAD" not in said
    assert "tasks left: []" in said


def test_a_record_more_costs_next_to_no_memory() -> None:
    """The peaks of a small and of a larger run; most of what is between them is noise of two processes."""
    assert "bytes a record" in script("memory", "--few", "1000", "--many", "12000", "--limit", "300")
