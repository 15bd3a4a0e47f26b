"""How near the engine comes to what it stands on: the raw protocol and a minimal aiohttp loop, in one run.

python -m benchmarks.ratios                      100 KB images, 100 in flight, 0 ms, 5 rounds
python -m benchmarks.ratios --size 10000
"""

from __future__ import annotations

import argparse
import functools

from benchmarks.harness import endpoint, images, interleaved, run_client, store, table

CLIENTS = ("raw", "minimal", "engine")


def compare(size: int, workers: int, records: int, rounds: int) -> dict[str, dict[str, float]]:
    """The median figures of each client, measured in turn."""
    with endpoint() as url, images(size) as folder:

        def measure(name: str) -> dict[str, float]:
            return run_client(name, url=url, folder=folder, records=records, workers=workers)

        return interleaved({name: functools.partial(measure, name) for name in CLIENTS}, rounds)


def main() -> None:
    """Measure, print the table, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    a = parser.parse_args()
    medians = compare(a.size, a.workers, a.records, a.rounds)
    ours = medians["engine"]["rate"]
    rows = [
        [name, f"{m['rate']:,.0f}", f"{m['cpu_ms']:.3f}", f"{m['rss_mb']:.0f}", f"{ours / m['rate']:.2f}"]
        for name, m in medians.items()
    ]
    print(table(["client", "req/s", "CPU ms a request", "peak RSS MB", "engine / this"], rows))
    store(f"ratios_{a.size}", {"arguments": vars(a), "medians": medians})


if __name__ == "__main__":
    main()
