"""How much the engine carries: requests and megabytes a second over image size, requests in flight, latency.

    python -m benchmarks.throughput                      18 cells, 3 rounds, about 2 minutes
    python -m benchmarks.throughput --quick              8 small cells, 1 round, 10 s; nothing is stored
    python -m benchmarks.throughput --size 100000 --workers 100 --latency 0

The whole job through the public API: files, base64, requests, replies, journal. MB are megabytes of image
files; on the wire they are a third more. Each cell has as many records as take about two seconds by a first
short run over the same images, and at least three for each request in flight. Time is that of the whole run:
nothing is cut off at the start, when connections are made, or at the end, when the last are waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import endpoint, images, interleaved, run_client, store, table

SIZES = (10_000, 100_000, 1_000_000)
WORKERS = (10, 100, 500)
LATENCIES_S = (0.0, 0.2)

_PROBE_RECORDS = 300
_PROBE_WORKERS = 50


def measure(
    quick: bool = False,
    *,
    sizes: Sequence[int] = SIZES,
    workers: Sequence[int] = WORKERS,
    latencies_s: Sequence[float] = LATENCIES_S,
    rounds: int = 3,
    seconds: float = 2.0,
) -> dict[str, Any]:
    """The median figures of each cell.

    Args:
        quick: small cells, one round.
        sizes: bytes of an image file.
        workers: requests in flight.
        latencies_s: seconds the endpoint takes to answer.
        rounds: how often each cell is measured.
        seconds: how long a cell should last.
    """
    if quick:
        sizes, workers, rounds, seconds = sizes[:2], workers[:2], 1, 0.5
    with contextlib.ExitStack() as stack:
        urls = {latency: stack.enter_context(endpoint(latency)) for latency in latencies_s}
        unslowed = urls.get(0.0) or stack.enter_context(endpoint())
        folders = {size: stack.enter_context(images(size)) for size in sizes}
        probed = {size: _probe(unslowed, folder) for size, folder in folders.items()}
        cells = {
            (size, in_flight, latency): _records(probed[size], in_flight, latency, seconds)
            for size in sizes
            for in_flight in workers
            for latency in latencies_s
        }
        found = interleaved(
            {
                f"{size} bytes, {in_flight} in flight, {latency:g} s": functools.partial(
                    run_client,
                    "engine",
                    url=urls[latency],
                    folder=folders[size],
                    records=records,
                    workers=in_flight,
                )
                for (size, in_flight, latency), records in cells.items()
            },
            rounds,
        )
    return {
        "rounds": rounds,
        "cells": [
            {"size": size, "workers": in_flight, "latency_s": latency, "records": records}
            | {name: figures[name] for name in ("rate", "cpu_ms", "rss_mb")}
            | {"mb_per_s": figures["rate"] * size / 1e6}
            for ((size, in_flight, latency), records), figures in zip(
                cells.items(), found.values(), strict=True
            )
        ],
    }


def _probe(url: str, folder: Path) -> float:
    """Requests a second in a first short run, good enough to choose the number of records."""
    figures = run_client("engine", url=url, folder=folder, records=_PROBE_RECORDS, workers=_PROBE_WORKERS)
    return figures["rate"]


def _records(rate: float, workers: int, latency_s: float, seconds: float) -> int:
    """As many as should take ``seconds``, and at least three for each request in flight."""
    expected = min(rate, workers / latency_s) if latency_s else rate
    return max(3 * workers, math.ceil(expected * seconds))


def rows(result: Mapping[str, Any]) -> list[list[object]]:
    """The table's rows."""
    return [
        [
            f"{cell['size'] / 1000:,.0f} KB",
            cell["workers"],
            f"{cell['latency_s'] * 1000:.0f} ms",
            f"{cell['records']:,}",
            f"{cell['rate']:,.0f}",
            f"{cell['mb_per_s']:,.0f}",
            f"{cell['cpu_ms']:.2f}",
            f"{cell['rss_mb']:.0f}",
        ]
        for cell in result["cells"]
    ]


def main() -> None:
    """Measure, print the table, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs="+", default=SIZES, help="bytes of an image file")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS, help="requests in flight")
    parser.add_argument("--latency", type=float, nargs="+", default=LATENCIES_S, help="in seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a cell should last")
    parser.add_argument("--quick", action="store_true", help="small cells, one round; nothing is stored")
    a = parser.parse_args()
    result = measure(
        a.quick,
        sizes=a.size,
        workers=a.workers,
        latencies_s=a.latency,
        rounds=a.rounds,
        seconds=a.seconds,
    )
    header = ["image", "in flight", "latency", "records", "req/s", "MB/s", "CPU ms a request", "peak RSS MB"]
    print(table(header, rows(result)))
    if not a.quick:
        store("throughput", {"arguments": vars(a), **result})


if __name__ == "__main__":
    main()
