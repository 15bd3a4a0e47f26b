"""How soon the command line answers, and that it loads nothing heavy for that.

    python -m benchmarks.start                           median of 10, a few seconds
    python -m benchmarks.start --quick                   median of 3; nothing is stored

Wall time of whole processes, one after the other, caches warm: `vqa-async --help`, `vqa-async run --help`,
and, to compare with, a Python that does nothing. Then a process of its own calls the command line's `--help`
and looks which packages are loaded at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import interleaved, run_module, store, table

HEAVY = ("aiohttp", "PIL", "pyarrow")


def measure(quick: bool = False, *, rounds: int = 10) -> dict[str, Any]:
    """The median wall times, and the heavy packages that `--help` has loaded."""
    rounds = 3 if quick else rounds
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "vqa-async --help": [*_command(), "--help"],
        "vqa-async run --help": [*_command(), "run", "--help"],
    }
    for command in commands.values():
        _seconds(command)  # so that all files are in memory
    times = interleaved(
        {name: functools.partial(_seconds, command) for name, command in commands.items()}, rounds
    )
    return {
        "rounds": rounds,
        "seconds": {name: figures["seconds"] for name, figures in times.items()},
        **run_module("benchmarks.start", "--imports", pin=()),
    }


def _command() -> list[str]:
    """The installed command beside this interpreter, or the module where it was not installed."""
    script = Path(sys.executable).with_name("vqa-async")
    return [str(script)] if script.exists() else [sys.executable, "-m", "vqa_async"]


def _seconds(command: Sequence[str]) -> dict[str, float]:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return {"seconds": time.perf_counter() - begun}


def loaded() -> dict[str, Any]:
    """The packages that `--help` loads, in this process."""
    before = set(sys.modules)
    from vqa_async.cli import main as command_line

    said = io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(said):
        try:
            command_line(["--help"])
        except SystemExit as ended:
            code = ended.code
    if code or "Usage" not in said.getvalue():
        raise RuntimeError(f"--help ended with {code} and said {said.getvalue()[:200]!r}")
    return {
        "modules": len(set(sys.modules) - before),
        "heavy": [name for name in HEAVY if name in sys.modules],
    }


def checks(result: Mapping[str, Any]) -> list[tuple[str, float, str, float]]:
    """What was to be reached: what, measured, how they compare, target."""
    return [
        ("start: vqa-async --help, seconds", result["seconds"]["vqa-async --help"], "<", 0.4),
        (f"start: packages loaded of {', '.join(HEAVY)}", len(result["heavy"]), "<", 1),
    ]


def main() -> None:
    """Measure, print the table, store the figures; or be the process that is looked at."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="median of 3; nothing is stored")
    parser.add_argument("--imports", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.imports:
        print(json.dumps(loaded()))
        return
    result = measure(a.quick, rounds=a.rounds)
    print(table(["command", "seconds"], [[n, f"{s:.3f}"] for n, s in result["seconds"].items()]))
    heavy = ", ".join(result["heavy"]) or f"none of {', '.join(HEAVY)}"
    print(f"\n`--help` loads {result['modules']} modules; of the heavy packages: {heavy}.")
    if not a.quick:
        store("start", {"arguments": {"rounds": a.rounds}, **result})


if __name__ == "__main__":
    main()
