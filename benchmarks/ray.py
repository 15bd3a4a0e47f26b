"""What Ray costs: the same run by one process, and by Ray Data with two workers that share its limits.

    python -m benchmarks.ray                             64, 128 and 256 in flight, 3 rounds, 8 min
    python -m benchmarks.ray --workers 128 --actors 4
    python -m benchmarks.ray --quick                     64 in flight, 1 round, 1 min; nothing is stored

The command line is measured, as people run it: JSONL with images of 10 KB beside it, an endpoint that takes
100 ms, answers on the disk in the end. Both have the same requests in flight over all. "Whole" counts
everything from the start of the process to its end, that of Ray included, and so depends on the length of the
run. "Working" counts from the first request that was sent to the last answer that was kept, as the journal
has noted them, and is what a long run comes to. The target is a share of 0.8 of the plain run, working.

Nothing is pinned, for Ray has half a dozen processes; they and the endpoint share the cores, so where the
machine is busy the figure is that of the machine.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import endpoint, images, interleaved, store, table

LATENCY_S = 0.1
WORKERS = (64, 128, 256)
TARGET = 0.8
IMAGE_BYTES = 10_000
TURNS = 120
"""Times that all requests in flight are answered: 12 s of work and a little more."""

HEADER = (
    "in flight", "records", "plain req/s, working", "Ray req/s, working", "share", "target", "plain s, whole",
    "Ray s, whole", "of which start and end, s", "share, whole",
)  # fmt: skip


def measure(
    quick: bool = False, *, workers: Sequence[int] = WORKERS, actors: int = 2, rounds: int = 3
) -> dict[str, Any]:
    """The median figures for each number of requests in flight.

    Args:
        quick: the first of them, a third of the records, one round.
        workers: requests in flight, over all processes.
        actors: processes of Ray that ask.
        rounds: how often each is measured.
    """
    turns = TURNS // 3 if quick else TURNS
    rows = []
    with endpoint(LATENCY_S) as url, images(IMAGE_BYTES, 500) as folder:
        for width in workers[:1] if quick else workers:
            records = width * turns
            _write(folder / "in.jsonl", records)
            ways: dict[str, Callable[[], Mapping[str, float]]] = {
                "plain": functools.partial(_run, url, folder, width, records),
                "ray": functools.partial(
                    _run, url, folder, width, records, "--engine", "ray", "--ray-actors", str(actors)
                ),
            }
            rows.append(_row(width, records, interleaved(ways, 1 if quick else rounds)))
    return {"latency_s": LATENCY_S, "actors": actors, "rounds": 1 if quick else rounds, "rows": rows}


def _write(path: Path, records: int) -> None:
    with path.open("w") as file:
        for number in range(records):
            row = {"image": f"{number % 500:04}.jpg", "conversation": f"What is number {number}?"}
            file.write(json.dumps(row) + "\n")


def _run(url: str, folder: Path, width: int, records: int, *options: str) -> dict[str, float]:
    """One run of the command in a fresh process."""
    with tempfile.TemporaryDirectory() as out:
        output = Path(out) / "out.jsonl"
        command = [
            sys.executable, "-m", "vqa_async", "run", str(folder / "in.jsonl"), "-o", str(output), "--quiet",
            "--base-url", url, "--model", "m", "--max-workers", str(width), *options,
        ]  # fmt: skip
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        whole = time.perf_counter() - started
        working, count = _working_s(output)
    if count != records:
        raise RuntimeError(f"{count} of {records} records were answered")
    return {"whole_s": whole, "working_s": working, "rate": records / working}


def _working_s(output: Path) -> tuple[float, int]:
    """From the first request sent to the last answer kept, and how many answers there are."""
    first, last, count = float("inf"), 0.0, 0
    with output.open() as file:
        for line in file:
            meta = json.loads(line)["_meta"]
            first = min(first, meta["finished_at"] - meta["latency_s"])
            last, count = max(last, meta["finished_at"]), count + 1
    return last - first, count


def _row(width: int, records: int, found: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    plain, ray = found["plain"], found["ray"]
    return {
        "workers": width,
        "records": records,
        "plain": dict(plain),
        "ray": dict(ray),
        "share": ray["rate"] / plain["rate"],
        "share_whole": plain["whole_s"] / ray["whole_s"],
        "target": TARGET,
    }


def report(result: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
    return table(
        HEADER,
        [
            (
                row["workers"],
                f"{row['records']:,}",
                f"{row['plain']['rate']:,.0f}",
                f"{row['ray']['rate']:,.0f}",
                f"{row['share']:.2f}",
                f"{row['target']:.2f}",
                f"{row['plain']['whole_s']:.1f}",
                f"{row['ray']['whole_s']:.1f}",
                f"{row['ray']['whole_s'] - row['ray']['working_s']:.1f}",
                f"{row['share_whole']:.2f}",
            )
            for row in result["rows"]
        ],
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=list(WORKERS))
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one row, 1 round; nothing is stored")
    a = parser.parse_args()
    os.environ.pop("RAY_ADDRESS", None)
    measured = measure(a.quick, workers=a.workers, actors=a.actors, rounds=a.rounds)
    print(report(measured))
    if not a.quick:
        store("ray", {"arguments": vars(a), **measured})
