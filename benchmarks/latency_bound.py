"""How close the engine comes to `in flight / latency`, which is all that a slow endpoint allows.

    python -m benchmarks.latency_bound                   200 ms (3 rounds) and 2 s (1), 8 minutes
    python -m benchmarks.latency_bound --quick           the rows with a target, 1 round, 2 min; not stored
    python -m benchmarks.latency_bound --latency 2 --size 10000 --workers 1000 --turns 20

For each row the engine also runs at 0 ms in the same round: where it cannot do `in flight / latency` requests
a second even then, that is the smaller bound. The share is of the smaller of both.

"Achieved" counts the time of the whole run, nothing cut off. The pool takes R turns: 20 at 200 ms (10 from
1,000 in flight on) and 5 at 2 s, 50 and 30 in rows that have a target. R turns take R x latency at best, the
first connections and the last replies included; so the ideal itself is reached only if nothing but the
latency takes time, and what is lost in opening the journal, connecting, and a ragged end counts in full, the
more the fewer turns there are. What is left of that in a long run says the column "steady": the same share
from the last request of the first turn to the last request of the last one, by the endpoint's own count,
which is looked at meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import json
import resource
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.harness import endpoint, images, interleaved, run_client, store, table

WORKERS = (10, 50, 200, 500, 1000, 2000)
TARGETS = {(0.2, 100_000, 200): 0.92, (2.0, 10_000, 1000): 0.97, (0.2, 100_000, 1000): 0.90}
"""Least share by latency, image size and requests in flight."""

HEADER = (
    "latency", "image", "in flight", "turns", "in flight / latency", "req/s at 0 ms", "achieved",
    "of in flight / latency", "of the smaller", "target", "steady", "CPU ms a request", "peak RSS MB",
)  # fmt: skip

_SPARE_DESCRIPTORS = 100
"""Besides the sockets: images, the journal, the interpreter; the engine itself sets 64 aside."""

_LOOK_EVERY_S = 0.02


@dataclass(frozen=True)
class Setting:
    """A latency, what is sent meanwhile, and how often the whole pool is used (0: by the latency)."""

    latency_s: float
    size: int
    turns: int = 0

    def turns_of(self, workers: int) -> int:
        """Turns of the pool: 4 s of work where it is fast, 10 s where it is slow, more with a target."""
        if self.turns:
            return self.turns
        if (self.latency_s, self.size, workers) in TARGETS:
            return 30 if self.latency_s >= 1 else 50
        if self.latency_s >= 1:
            return 5
        return 20 if workers < 1000 else 10


def measure(
    quick: bool = False,
    *,
    settings: Sequence[Setting] = (Setting(0.2, 100_000), Setting(2.0, 10_000)),
    workers: Sequence[int] = WORKERS,
    rounds: int = 3,
    targets_only: bool = False,
) -> dict[str, Any]:
    """The median figures of each row.

    Args:
        quick: only the rows that have a target, one round.
        settings: latencies, each with its size of image.
        workers: requests in flight.
        targets_only: leave out the rows that have none.
        rounds: how often each row is measured; half as often with a latency of a second or more, for such
            rows last ten seconds, wait most of them, and hardly differ.
    """
    allowed = _raise_descriptor_limit()
    rows: list[dict[str, Any]] = []
    for setting in settings:
        wanted = [
            w
            for w in workers
            if not (quick or targets_only) or (setting.latency_s, setting.size, w) in TARGETS
        ]
        possible = [w for w in wanted if w + _SPARE_DESCRIPTORS <= allowed]
        times = 1 if quick else max(1, rounds // 2) if setting.latency_s >= 1 else rounds
        found = _measured(setting, possible, times)
        rows += [found[w] if w in found else _impossible(setting, w, allowed) for w in wanted]
    return {"rounds": 1 if quick else rounds, "rows": rows}


def _measured(setting: Setting, workers: Sequence[int], rounds: int) -> dict[int, dict[str, Any]]:
    """The row of each number of requests in flight."""
    if not workers:
        return {}
    with endpoint(setting.latency_s) as slow, endpoint() as fast, images(setting.size) as folder:
        candidates: dict[str, Callable[[], Mapping[str, float]]] = {}
        for w in workers:
            candidates[f"{w} in flight, slow"] = functools.partial(_slowed, setting, slow, folder, w)
            candidates[f"{w} in flight, fast"] = functools.partial(_unslowed, fast, folder, w)
        found = interleaved(candidates, rounds)
    return {
        w: _row(setting, w, found[f"{w} in flight, slow"], found[f"{w} in flight, fast"]) for w in workers
    }


def _slowed(setting: Setting, url: str, folder: Path, workers: int) -> dict[str, float]:
    """The run against the slow endpoint, with the rate in between as the endpoint counted it."""
    turns = setting.turns_of(workers)
    with _counted(url) as reached:
        figures = run_client("engine", url=url, folder=folder, records=workers * turns, workers=workers)
    between = reached(workers * turns) - reached(workers)
    return figures | {"steady": workers * (turns - 1) / between}


def _unslowed(url: str, folder: Path, workers: int) -> dict[str, float]:
    # Ten turns as well, for the first connections count here too; and one or two seconds at least.
    records = max(3000, min(10 * workers, 10_000))
    return run_client("engine", url=url, folder=folder, records=records, workers=workers)


@contextlib.contextmanager
def _counted(url: str) -> Iterator[Callable[[int], float]]:
    """Look at the endpoint's count during the block; gives a function: when had it that many requests?"""
    seen: list[tuple[float, int]] = []
    over = threading.Event()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def look(path: str = "/stats") -> None:
        connection.request("GET", path)
        answered = json.loads(connection.getresponse().read())["answered"]
        seen.append((time.perf_counter(), answered))

    def watch() -> None:
        while not over.wait(_LOOK_EVERY_S):
            look()

    look("/reset")
    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield lambda count: next(at for at, answered in seen if answered >= count)
    finally:
        over.set()
        watching.join()
        connection.close()


def _row(
    setting: Setting, workers: int, slowed: Mapping[str, float], unslowed: Mapping[str, float]
) -> dict[str, Any]:
    ideal = workers / setting.latency_s
    bound = min(ideal, unslowed["rate"])
    return {
        "latency_s": setting.latency_s,
        "size": setting.size,
        "workers": workers,
        "turns": setting.turns_of(workers),
        "ideal": ideal,
        "unslowed": unslowed["rate"],
        "rate": slowed["rate"],
        "of_ideal": slowed["rate"] / ideal,
        "share": slowed["rate"] / bound,
        "steady_share": slowed["steady"] / bound,
        "cpu_ms": slowed["cpu_ms"],
        "rss_mb": slowed["rss_mb"],
        "target": TARGETS.get((setting.latency_s, setting.size, workers)),
    }


def _impossible(setting: Setting, workers: int, allowed: int) -> dict[str, Any]:
    needed = workers + _SPARE_DESCRIPTORS
    return {
        "latency_s": setting.latency_s,
        "size": setting.size,
        "workers": workers,
        "turns": setting.turns_of(workers),
        "ideal": workers / setting.latency_s,
        "reason": f"It needs {needed:,} file descriptors, and this machine allows {allowed:,}.",
    }


def _raise_descriptor_limit() -> int:
    """As many open files as the system lets this process and its children have, the endpoint among them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def checks(result: Mapping[str, Any]) -> list[tuple[str, float, str, float]]:
    """What was to be reached: what, measured, how they compare, target."""
    return [
        (
            f"{row['latency_s']:g} s latency, {row['workers']:,} in flight, {row['size'] // 1000} KB: "
            "achieved / min(in flight / latency, throughput at 0 ms)",
            row["share"],
            ">=",
            row["target"],
        )
        for row in result["rows"]
        if row.get("target") is not None
    ]


def rows(result: Mapping[str, Any]) -> list[list[object]]:
    """The table's rows."""
    return [_shown(row) for row in result["rows"]]


def _shown(row: Mapping[str, Any]) -> list[object]:
    start = [
        f"{row['latency_s'] * 1000:,.0f} ms",
        f"{row['size'] / 1000:,.0f} KB",
        f"{row['workers']:,}",
        row["turns"],
        f"{row['ideal']:,.0f}",
    ]
    if "reason" in row:
        return [*start, row["reason"], *[""] * (len(HEADER) - len(start) - 1)]
    return [
        *start,
        f"{row['unslowed']:,.0f}",
        f"{row['rate']:,.0f}",
        f"{row['of_ideal']:.3f}",
        f"{row['share']:.3f}",
        f"{row['target']:.2f}" if row["target"] else "",
        f"{row['steady_share']:.3f}",
        f"{row['cpu_ms']:.2f}",
        f"{row['rss_mb']:.0f}",
    ]


def main() -> None:
    """Measure, print the table, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency", type=float, nargs="+", default=(0.2, 2.0), help="in seconds")
    parser.add_argument("--size", type=int, nargs="+", default=(100_000, 10_000), help="one for each latency")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS, help="requests in flight")
    parser.add_argument("--turns", type=int, default=0, help="how often the pool is used; 0: as said above")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="rows with a target, 1 round; nothing is stored")
    a = parser.parse_args()
    if len(a.latency) != len(a.size):
        parser.error("Give as many sizes as latencies.")
    settings = [Setting(latency, size, a.turns) for latency, size in zip(a.latency, a.size, strict=True)]
    result = measure(a.quick, settings=settings, workers=a.workers, rounds=a.rounds)
    print(table(HEADER, rows(result)))
    if not a.quick:
        store("latency_bound", {"arguments": vars(a), **result})


if __name__ == "__main__":
    main()
