"""Whether a second client process would gain: one process against two that share the records.

    python -m benchmarks.scaling                         100 KB, at 0 and at 200 ms, 5 rounds, 3 min
    python -m benchmarks.scaling --size 10000
    python -m benchmarks.scaling --quick                 1 round, seconds; nothing is stored

One engine over all records with all requests in flight, then two at once, each over half of both, against one
endpoint; each of them pinned to a core of its own, and left to the system. The endpoint has core 1. On two
cores it shares that with the second process, so a part of what two processes would gain with a core more
is not to be seen here; hence the CPU time of the endpoint is measured as well, and what is concluded is
computed from all of it.

The rate of two is that of all records over the time of the slower one: both begin at once but for the few
hundredths of a second by which one has loaded sooner.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import cores, images, interleaved, store, table

SETTINGS = ((0.0, 100), (0.2, 400))
"""Seconds that the endpoint takes, and requests in flight: bound by the CPU, and as usual."""

NOISE = 0.1
"""Ratios this near to 1 are not told apart from 1 on a machine that others use too."""


def measure(
    quick: bool = False,
    *,
    size: int = 100_000,
    workers: int = 100,
    latency_s: float = 0.0,
    records: int = 8000,
    rounds: int = 5,
) -> dict[str, Any]:
    """The median figures of one and of two processes, unpinned and pinned.

    Args:
        quick: a quarter of the records, one round.
        size: bytes of an image file.
        workers: requests in flight, over all processes.
        latency_s: seconds the endpoint takes to answer.
        records: over all processes.
        rounds: how often each is measured.
    """
    if quick:
        records, rounds = records // 4, 1
    with _endpoint(latency_s) as (url, process), images(size) as folder:

        def measured(pins: Sequence[Sequence[str]]) -> dict[str, float]:
            before = _cpu_s(process.pid)
            figures = _together(pins, url, folder, records, workers)
            spent = _cpu_s(process.pid) - before
            return figures | {"endpoint_cpu_ms": spent / records * 1000}

        candidates: dict[str, Callable[[], Mapping[str, float]]] = {
            name: functools.partial(measured, pins) for name, pins in _ways().items()
        }
        found = interleaved(candidates, rounds)
    return {
        "rounds": rounds,
        "size": size,
        "workers": workers,
        "latency_s": latency_s,
        "records": records,
        "cores": os.cpu_count() or 1,
        "ways": found,
        "ratio": _best(found, 2)["rate"] / _best(found, 1)["rate"],
    }


def _ways() -> dict[str, list[list[str]]]:
    """For each way, the command prefixes of its processes."""
    ways: dict[str, list[list[str]]] = {"1 process, unpinned": [[]], "2 processes, unpinned": [[], []]}
    if first := cores()[0]:
        second = ["taskset", "-c", "2" if (os.cpu_count() or 1) > 2 else "1"]  # core 1 is the endpoint's
        ways |= {"1 process, pinned": [first], "2 processes, pinned": [first, second]}
    return ways


def _together(
    pins: Sequence[Sequence[str]], url: str, folder: Path, records: int, workers: int
) -> dict[str, float]:
    """Run one client for each prefix, all at once."""
    count = len(pins)
    command = [
        sys.executable, "-m", "benchmarks.clients", "engine", "--url", url, "--images", str(folder),
        "--records", str(records // count), "--workers", str(max(1, workers // count)),
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen([*pin, *command], stdout=subprocess.PIPE, text=True))
            for pin in pins
        ]
        said = [process.communicate(timeout=600)[0] for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError("a client failed; its reason stands above")
    each = [json.loads(lines.splitlines()[-1]) for lines in said]
    done = records // count * count
    return {
        "rate": done / max(figures["seconds"] for figures in each),
        "cpu_ms": sum(figures["cpu_s"] for figures in each) / done * 1000,
        "rss_mb": sum(figures["rss_mb"] for figures in each),
    }


@contextlib.contextmanager
def _endpoint(latency_s: float) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The endpoint as ``harness.endpoint`` has it, and its process, to ask for its CPU time."""
    command = [*cores()[1], sys.executable, "-m", "benchmarks.endpoint", "--latency", str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.terminate()


def _cpu_s(pid: int) -> float:
    """CPU seconds that a process has taken so far; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _best(ways: Mapping[str, Mapping[str, float]], processes: int) -> Mapping[str, float]:
    return max((m for name, m in ways.items() if name.startswith(str(processes))), key=lambda m: m["rate"])


def conclusion(result: Mapping[str, Any]) -> str:
    """What the figures allow to say about a second process."""
    one, two = _best(result["ways"], 1), _best(result["ways"], 2)
    load = one["rate"] * one["cpu_ms"] / 1000
    sentences = [_gain(one, two, result["ratio"])]
    if load < 1 - NOISE:
        sentences.append(f"One process uses {load:.0%} of a core: it waits, and a second has nothing to add.")
    else:
        sentences.append(f"One process uses {load:.0%} of a core: it is bound by the CPU.")
        sentences += _room(one, two, result["cores"])
    return " ".join(sentences)


def _gain(one: Mapping[str, float], two: Mapping[str, float], ratio: float) -> str:
    judged = "less than one alone"
    if ratio >= 1 - NOISE:
        judged = "more than the noise" if ratio > 1 + NOISE else "within the noise of one alone"
    return (
        f"Two processes carry {ratio:.2f} times what one does, {judged}: {two['rate']:,.0f} and "
        f"{one['rate']:,.0f} requests a second, each the better of its two ways, at {two['cpu_ms']:.2f} and "
        f"{one['cpu_ms']:.2f} ms of CPU a request."
    )


def _room(one: Mapping[str, float], two: Mapping[str, float], count: int) -> list[str]:
    """What the cores would allow, by the CPU time of two processes: here, and without the endpoint."""
    if not two["endpoint_cpu_ms"]:
        return []
    here = count * 1000 / (two["cpu_ms"] + two["endpoint_cpu_ms"])
    alone = 2 * 1000 / two["cpu_ms"]
    return [
        f"The endpoint takes {two['endpoint_cpu_ms']:.2f} ms a request of the same {count} cores, which so "
        f"allow {here:,.0f} requests a second at most, {here / one['rate']:.2f} times what one process does.",
        f"With the endpoint elsewhere two cores would allow {alone:,.0f}, {alone / one['rate']:.2f} times.",
    ]


def rows(result: Mapping[str, Any]) -> list[list[object]]:
    """The table's rows."""
    base = _best(result["ways"], 1)["rate"]
    return [
        [
            name,
            f"{m['rate']:,.0f}",
            f"{m['rate'] / base:.2f}",
            f"{m['cpu_ms']:.3f}",
            f"{m['endpoint_cpu_ms']:.3f}" if m["endpoint_cpu_ms"] else "not to be seen on this system",
            f"{m['rss_mb']:.0f}",
        ]
        for name, m in result["ways"].items()
    ]


def main() -> None:
    """Measure, print the table and what follows from it, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=100_000, help="bytes of an image file")
    parser.add_argument("--records", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a quarter, 1 round; nothing is stored")
    a = parser.parse_args()
    header = ["", "req/s", "/ best of one", "CPU ms a request", "endpoint's CPU ms", "peak RSS MB, sum"]
    results = []
    for latency_s, workers in SETTINGS:
        result = measure(
            a.quick, size=a.size, workers=workers, latency_s=latency_s, records=a.records, rounds=a.rounds
        )
        results.append({**result, "conclusion": conclusion(result)})
        print(f"{latency_s * 1000:g} ms, {workers} in flight over all processes\n")
        print(f"{table(header, rows(result))}\n\n{conclusion(result)}\n")
    if not a.quick:
        store("scaling", {"arguments": vars(a), "settings": results})


if __name__ == "__main__":
    main()
