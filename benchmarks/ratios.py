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
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import ceiling, images, journal, latency_bound, memory, peers, start
from benchmarks.harness import store, table

Check = tuple[str, float, str, float]
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda measured, target: measured >= target,
    "<=": lambda measured, target: measured <= target,
    "<": lambda measured, target: measured < target,
}


def parts(quick: bool, pythons: list[str]) -> dict[str, Callable[[], list[Check]]]:
    """What measures and checks each part; each writes its own figures too."""

    def part(name: str, module: Any, **options: Any) -> Callable[[], list[Check]]:
        def measure_and_check() -> list[Check]:
            result: Mapping[str, Any] = module.measure(quick, **options)
            if not quick:
                store(f"ratios_{name}", result)
            found: list[Check] = module.checks(result)
            return found

        return measure_and_check

    found = {
        "start": part("start", start),
        "ceiling": part("ceiling", ceiling),
        "latency_bound": part("latency_bound", latency_bound, rounds=5, targets_only=True),
        "images": part("images", images),
        "memory": part("memory", memory),
        "journal": part("journal", journal) if quick else part("journal", journal, full=True),
    }
    return found | {"peers": part("peers", peers, pythons=pythons)} if pythons else found


def main() -> int:
    """Measure, print the table, store the figures; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", default=[], help="of a peers' environment; repeatable")
    parser.add_argument("--only", action="append", help="one part; repeatable; the table is not stored")
    parser.add_argument("--quick", action="store_true", help="one round of each; nothing is stored")
    a = parser.parse_args()
    checked: list[Check] = []
    for name, measure_and_check in parts(a.quick, a.python).items():
        if not a.only or name in a.only:
            begun = time.monotonic()
            checked += measure_and_check()
            print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    rows = [
        [what, f"{measured:.3g}", f"{how} {target:g}", "yes" if _HOLDS[how](measured, target) else "NO"]
        for what, measured, how, target in checked
    ]
    print(table(["what", "measured", "target", "reached"], rows))
    if not (a.quick or a.only):
        store("ratios", {"checks": checked})
    return 0 if all(_HOLDS[how](measured, target) for _, measured, how, target in checked) else 1


if __name__ == "__main__":
    raise SystemExit(main())
