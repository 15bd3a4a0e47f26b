"""Every figure that is to be reached, measured in one run and held against its target.

    python -m benchmarks.ratios --python PEERS/bin/python --python CURATOR/bin/python       about 35 minutes
    python -m benchmarks.ratios --quick                  one round of each, 4 minutes; nothing is stored

Without `--python` the peers are left out. Each part is a benchmark of its own, which says how it measures; a
target that is not reached is a row that says so, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import ceiling, images, journal, latency_bound, memory, peers, report, start
from benchmarks.harness import store, table

Check = tuple[str, float, str, float]
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda measured, target: measured >= target,
    "<=": lambda measured, target: measured <= target,
    "<": lambda measured, target: measured < target,
}


def parts(quick: bool, pythons: list[str]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """The benchmarks that have targets, each with the options that it is run with."""
    found: dict[str, tuple[Any, dict[str, Any]]] = {
        "start": (start, {}),
        "ceiling": (ceiling, {}),
        "latency_bound": (latency_bound, {"rounds": 5, "targets_only": True}),
        "images": (images, {}),
        "memory": (memory, {"rounds": 5}),
        "journal": (journal, {"full": not quick}),
    }
    if report.CHROMIUM:
        found["report"] = (report, {})
    return found | {"peers": (peers, {"pythons": pythons})} if pythons else found


def main() -> int:
    """Measure, print the table, store the figures; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", default=[], help="of a peers' environment; repeatable")
    parser.add_argument("--only", action="append", help="one part; repeatable; the table is not stored")
    parser.add_argument("--quick", action="store_true", help="one round of each; nothing is stored")
    a = parser.parse_args()
    checked: list[Check] = []
    results: dict[str, Any] = {}
    for name, (module, options) in parts(a.quick, a.python).items():
        if not a.only or name in a.only:
            begun = time.monotonic()
            results[name] = module.measure(a.quick, **options)
            checked += module.checks(results[name])
            print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    rows = [
        [what, f"{measured:.3g}", f"{how} {target:g}", "yes" if _HOLDS[how](measured, target) else "NO"]
        for what, measured, how, target in checked
    ]
    print(table(["what", "measured", "target", "reached"], rows))
    if not (a.quick or a.only):
        store("ratios", {"checks": checked, "parts": results})
    return 0 if all(_HOLDS[how](measured, target) for _, measured, how, target in checked) else 1


if __name__ == "__main__":
    raise SystemExit(main())
