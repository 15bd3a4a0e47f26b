"""How near the engine comes to what it stands on: HTTP by hand, and the least that aiohttp needs.

    python -m benchmarks.ceiling                     10 KB, 100 KB and 1 MB, 100 in flight; 5 rounds, 4 min
    python -m benchmarks.ceiling --size 100000
    python -m benchmarks.ceiling --quick             1 round of 100 KB, seconds; nothing is stored

All clients send the same bodies to the same endpoint, which answers at once. `prebuilt` leaves out files and
base64: that is what the wire costs. `raw` is an asyncio protocol that writes HTTP by hand and knows no error;
with uvloop, where that is installed, it is the ceiling for any client in Python. `minimal` is a loop around
aiohttp with none of what a user needs: no ids, no journal, no retry, no limits, no statistics.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import endpoint, images, interleaved, run_client, store, table

SIZES = (10_000, 100_000, 1_000_000)
TARGETS = {10_000: 0.70, 100_000: 0.80, 1_000_000: 0.85}
"""Least rate of the engine as a share of that of the minimal aiohttp loop, by image size."""
TARGET_OF_RAW = 0.28
"""The same for HTTP by hand, at 100 KB."""

CLIENTS: dict[str, tuple[str, ...]] = {
    "raw-prebuilt": ("--prebuilt",),
    "raw": (),
    "minimal-prebuilt": ("--prebuilt",),
    "minimal": (),
    "engine": (),
}


def measure(
    quick: bool = False, *, sizes: Sequence[int] = SIZES, workers: int = 100, rounds: int = 5
) -> dict[str, Any]:
    """The median figures of each client at each size of image.

    Args:
        quick: one round at 100 KB with few records.
        sizes: bytes of an image file.
        workers: requests in flight.
        rounds: how often each is measured, in turn.
    """
    if quick:
        sizes, rounds = (100_000,), 1
    medians = {}
    for size in sizes:
        records = (1000 if quick else 5000) if size < 1_000_000 else 1000
        with endpoint() as url, images(size) as folder:
            candidates = {
                name: functools.partial(
                    run_client,
                    name.partition("-")[0],
                    url=url,
                    folder=folder,
                    records=records,
                    workers=workers,
                    options=options,
                )
                for name, options in _clients().items()
            }
            medians[str(size)] = interleaved(candidates, rounds)
    return {"workers": workers, "rounds": rounds, "medians": medians}


def _clients() -> dict[str, tuple[str, ...]]:
    if importlib.util.find_spec("uvloop") is None:
        return CLIENTS
    return {"raw-prebuilt-uvloop": ("--prebuilt", "--uvloop"), "raw-uvloop": ("--uvloop",), **CLIENTS}


def checks(result: Mapping[str, Any]) -> list[tuple[str, float, str, float]]:
    """What was measured against what is to be reached, as (what, measured, comparison, target)."""
    found = []
    for size, medians in result["medians"].items():
        ours = medians["engine"]["rate"]
        share = ours / medians["minimal"]["rate"]
        name = f"{int(size) // 1000} KB: throughput / minimal aiohttp loop"
        found.append((name, share, ">=", TARGETS[int(size)]))
        if int(size) == 100_000:
            name = "100 KB: throughput / HTTP by hand"
            found.append((name, ours / medians["raw"]["rate"], ">=", TARGET_OF_RAW))
    return found


def report(result: Mapping[str, Any]) -> str:
    """The table."""
    rows = []
    for size, medians in result["medians"].items():
        ours = medians["engine"]["rate"]
        for name, m in medians.items():
            megabytes = m["rate"] * int(size) / 1e6
            figures = f"{m['rate']:,.0f}", f"{megabytes:,.0f}", f"{m['cpu_ms']:.3f}", f"{m['rss_mb']:.0f}"
            rows.append([f"{int(size) // 1000} KB", name, *figures, f"{ours / m['rate']:.2f}"])
    header = ["image", "client", "req/s", "MB/s", "CPU ms a request", "peak RSS MB", "engine / this"]
    return table(header, rows)


def main() -> None:
    """Measure, print the table, store the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs="*", default=list(SIZES), help="bytes of an image file")
    parser.add_argument("--workers", type=int, default=100, help="requests in flight")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="1 round of 100 KB; nothing is stored")
    a = parser.parse_args()
    result = measure(a.quick, sizes=a.size, workers=a.workers, rounds=a.rounds)
    print(report(result))
    if not a.quick:
        store("ceiling", {"arguments": vars(a), **result})


if __name__ == "__main__":
    main()
