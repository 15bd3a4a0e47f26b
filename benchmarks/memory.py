"""Whether memory depends on the number of records: peak RSS of whole jobs over 10^3 to 10^6 records.

    python -m benchmarks.memory                          10^3, 10^4, 10^5 records, 3 rounds, 3 minutes
    python -m benchmarks.memory --quick                  10^3 and 10^4, 1 round; not stored
    python -m benchmarks.memory --full                   10^6 as well, about 10 minutes more

100 requests in flight, the endpoint answers at once; with an image of 100 KB each, and with text only. Each
job is a process of its own, and the peak is the system's own count of it. A run of 1,000 records with images
has filled the image cache (32 MiB) already, so what is between the rows is what the records themselves cost:
above all the table of their ids, by which repeats are told apart.

As Linux counts, a process begins with the peak of the one that started it; so the driver stays small, makes
no large picture, and says how much it had itself.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import clients
from benchmarks.harness import endpoint, images, interleaved, run_client, run_module, store, table

COUNTS = (1_000, 10_000, 100_000)
WORKERS = 100
KINDS = {"images": "100 KB image each", "text": "text only"}

_SINGLE_ROUND = 1_000_000
"""From so many records on one round is enough: it takes many minutes, and the peak hardly varies."""


def measure(quick: bool = False, *, counts: Sequence[int] = COUNTS, rounds: int = 3) -> dict[str, Any]:
    """The median peaks of each number of records, of both kinds.

    Args:
        quick: only the two smaller numbers, one round.
        counts: numbers of records.
        rounds: how often each is measured.
    """
    if quick:
        counts, rounds = counts[:2], 1
    few, many = [c for c in counts if c < _SINGLE_ROUND], [c for c in counts if c >= _SINGLE_ROUND]
    with endpoint() as url, images(100_000) as folder:
        found = _peaks(url, folder, few, rounds) | _peaks(url, folder, many, 1)
    return {
        "rounds": rounds,
        "driver_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rows": [
            {"kind": kind, "records": count, **found[f"{kind} {count}"]} for kind in KINDS for count in counts
        ],
    }


def _peaks(url: str, folder: Path, counts: Sequence[int], rounds: int) -> dict[str, dict[str, float]]:
    measurements: dict[str, Callable[[], Mapping[str, float]]] = {}
    for count in counts:
        measurements[f"images {count}"] = functools.partial(
            run_client, "engine", url=url, folder=folder, records=count, workers=WORKERS, timeout_s=1800
        )
        measurements[f"text {count}"] = functools.partial(_text, url, count)
    return interleaved(measurements, rounds)


def _text(url: str, records: int) -> dict[str, float]:
    measured = run_module("benchmarks.memory", "--text", url, "--records", records, timeout_s=1800)
    return measured | {"rate": records / measured["seconds"]}


async def text_only(job: clients.Job) -> None:
    """The engine over records without an image; ``clients.engine`` otherwise."""
    from vqa_async import open_engine

    source = job.folder / "in.jsonl"
    with source.open("w") as file:
        for number in range(job.records):
            file.write(json.dumps({"conversation": f"What comes after {number}?"}) + "\n")
    options: dict[str, Any] = {"base_url": job.url, "model": "benchmark", "max_workers": job.workers}
    async with open_engine(api_key="benchmark", **options) as opened:
        clients.started()
        summary = await opened.run(str(source), str(job.folder / "out.jsonl"))
    assert summary.statistics.succeeded == job.records, summary


def checks(result: Mapping[str, Any]) -> list[tuple[str, float, str, float]]:
    """What was to be reached: what, measured, how they compare, target."""
    peaks = {row["records"]: row["rss_mb"] for row in result["rows"] if row["kind"] == "images"}
    few, many = min(peaks), max(c for c in peaks if c < _SINGLE_ROUND)
    what = "peak RSS, 100 in flight, 100 KB images"
    return [
        (f"{what}, {many:,} records: MB", peaks[many], "<=", 120.0),
        (f"{what}: {many:,} records / {few:,}", peaks[many] / peaks[few], "<=", 1.05),
    ]


def rows(result: Mapping[str, Any]) -> list[list[object]]:
    """The table's rows."""
    first = {row["kind"]: row["rss_mb"] for row in reversed(result["rows"])}
    return [
        [
            KINDS[row["kind"]],
            f"{row['records']:,}",
            f"{row['rss_mb']:.1f}",
            f"{row['rss_mb'] / first[row['kind']]:.3f}",
            f"{row['rate']:,.0f}",
        ]
        for row in result["rows"]
    ]


def main() -> None:
    """Measure, print the table, store the figures; or be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="10^3 and 10^4, 1 round; nothing is stored")
    parser.add_argument("--full", action="store_true", help="10^6 records as well")
    parser.add_argument("--text", help=argparse.SUPPRESS)
    parser.add_argument("--records", type=int, default=0, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.text:
        with tempfile.TemporaryDirectory() as folder:
            job = clients.Job(a.text, [], a.records, WORKERS, Path(folder))
            print(json.dumps(clients.measure(text_only, job)))
        return
    counts = (*COUNTS, 1_000_000) if a.full else COUNTS
    result = measure(a.quick, counts=counts, rounds=a.rounds)
    print(table(["records", "number", "peak RSS MB", "/ the fewest", "req/s"], rows(result)))
    print(f"\nThe driver itself: {result['driver_rss_mb']:.0f} MB; no lower peak could be seen.")
    if not a.quick:
        store("memory", {"arguments": {"rounds": a.rounds, "full": a.full}, **result})


if __name__ == "__main__":
    main()
