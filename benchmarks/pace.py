"""Does the engine find the pace of an endpoint, stay below its limits, and survive its bad times?

    python -m benchmarks.pace                                             about 6 minutes
    python -m benchmarks.pace --quick                a third of the time; nothing is stored

The embedded endpoint plays each part, as a process of its own: one that saturates, one that limits the rate,
one that is slow, one that fails every other request, one that is killed and comes back. The engine runs here,
over its public API. What is quoted is a share of what the endpoint can do, so a slow machine matters little.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from benchmarks.harness import store, table
from vqa_async import RunStatistics, open_engine

KNEE = 64
KNEE_LATENCY_S = 0.2
RPM = 600
SEATS = 24


class Server:
    """The embedded endpoint as a process, which can be killed and started again at the same address."""

    def __init__(self, *flags: str) -> None:
        self._flags = flags
        self.url = ""
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Start it; at the port that it had before, if it had one."""
        port = self.url.rpartition(":")[2].removesuffix("/v1") or "0"
        command = [sys.executable, "-m", "vqa_async", "serve", "--port", port, "--no-decode", *self._flags]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def kill(self) -> None:
        """End it at once, requests in flight included."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def statistics(self) -> dict[str, Any]:
        """What it has counted."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/stats", timeout=10) as reply:
            found: dict[str, Any] = json.load(reply)
        return found


@contextlib.contextmanager
def servers(*flags: tuple[str, ...]) -> Iterator[list[Server]]:
    """An endpoint for each set of flags."""
    started = [Server(*each) for each in flags]
    try:
        yield started
    finally:
        for server in started:
            server.kill()


class Run:
    """One stream of questions over so many seconds, looked at while it goes on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.answered_at: list[float] = []
        self.in_flight: list[tuple[float, int]] = []
        self.failed = 0
        self.last = RunStatistics()
        self._began = 0.0

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    async def over(self, urls: list[str], at: Mapping[float, Callable[[], None]] = {}, **options: Any) -> Run:
        """Ask; call the functions in ``at`` at their times."""
        async with open_engine(base_url=urls, model="looks-1", most_workers=500, **options) as engine:
            self._began = time.monotonic()
            loop = asyncio.get_running_loop()
            for moment, what in at.items():
                loop.call_later(moment, what)
            watch = asyncio.create_task(self._watch(engine.statistics))
            async for result in engine.stream(self._questions()):
                self.answered_at.append(self.now)
                self.failed += not result.ok
            watch.cancel()
            self.last = engine.statistics()
        return self

    async def _questions(self) -> AsyncIterator[dict[str, str]]:
        number = 0
        while self.now < self.seconds:
            number += 1
            yield {"conversation": f"What comes after {number}?"}

    async def _watch(self, statistics: Callable[[], RunStatistics]) -> None:
        while True:
            self.in_flight.append((self.now, statistics().in_flight))
            await asyncio.sleep(0.05)

    def rate(self, start_s: float, end_s: float) -> float:
        """Answers a second between two moments."""
        return sum(start_s <= at < end_s for at in self.answered_at) / (end_s - start_s)

    def mean_in_flight(self, start_s: float, end_s: float) -> float:
        """Requests in flight between two moments, on average."""
        found = [count for at, count in self.in_flight if start_s <= at < end_s]
        return sum(found) / max(len(found), 1)

    def longest_gap_s(self) -> float:
        """The longest time without an answer, up to the end of the questions."""
        times = [0.0, *(at for at in self.answered_at if at < self.seconds), self.seconds]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


async def _width(start: int, seconds: float) -> dict[str, float]:
    """An endpoint that saturates at 64 in flight, from a start that is far off."""
    flags = ("--latency", str(KNEE_LATENCY_S), "--knee", str(KNEE))
    with servers(flags) as [server]:
        run = await Run(seconds).over([server.url], max_workers="auto", start_workers=start)
    late = max(seconds / 2, seconds - 15)
    best = KNEE / KNEE_LATENCY_S
    return {
        "share": run.rate(late, seconds) / best,
        "width": run.mean_in_flight(late, seconds) / KNEE,
        "failed": run.failed,
    }


async def _rate(seconds: float, **options: Any) -> dict[str, float]:
    """An endpoint that allows 600 requests a minute and answers 429 beyond."""
    with servers(("--latency", "0.2", "--rpm", str(RPM))) as [server]:
        run = await Run(seconds).over([server.url], max_workers=64, **options)
        statuses = server.statistics()["by_status"]
    return {
        "share": run.rate(seconds / 4, seconds) / (RPM / 60),
        "refused": statuses.get("429", 0) / sum(statuses.values()),
        "gap_s": run.longest_gap_s(),
        "failed": run.failed,
    }


_FAST = ("--latency", "0.1", "--max-concurrency", str(SEATS))
_SLOW = ("--latency", "0.4", "--max-concurrency", str(SEATS))
_FAILING = (*_FAST, "--error-rate", "500=0.5")


async def _several(seconds: float) -> dict[str, float]:
    """Three endpoints: fast, four times slower, failing half of its requests."""
    with servers(_FAST, _SLOW, _FAILING) as [fast, slow, failing]:
        alone = [await Run(seconds).over([one.url], max_workers="auto") for one in (fast, slow)]
        both = sum(run.rate(seconds / 2, seconds) for run in alone)
        run = await Run(seconds).over([fast.url, slow.url, failing.url], max_workers="auto")
    return {"share": run.rate(seconds / 2, seconds) / both, "failed": run.failed}


async def _killed(seconds: float) -> dict[str, float]:
    """One of three endpoints is killed and started again."""
    with servers(_FAST, _SLOW, _FAILING) as [fast, slow, failing]:
        at = {seconds / 4: fast.kill, seconds / 2: fast.start}
        run = await Run(seconds).over([fast.url, slow.url, failing.url], at=at, max_workers="auto")
        again = fast.statistics()["answered"]
    return {"failed": run.failed, "answered_after_restart": again}


async def _outage(seconds: float) -> dict[str, float]:
    """The only endpoint is gone for half of the time."""
    with servers(_FAST) as [server]:
        at = {seconds / 4: server.kill, seconds * 3 / 4: server.start}
        run = await Run(seconds).over([server.url], at=at, max_workers=SEATS)
    return {"failed": run.failed, "answered": len(run.answered_at)}


def measure(quick: bool = False) -> dict[str, Any]:
    """All parts, one after the other."""
    scale = 1 / 3 if quick else 1.0
    parts = {
        "width from 1": _width(1, 45 * scale),
        "width from 1000": _width(1000, 45 * scale),
        "rate": _rate(60 * scale),
        "rate told": _rate(60 * scale, rpm=RPM),
        "several": _several(30 * scale),
        "killed": _killed(40 * scale),
        "outage": _outage(60 * scale),
    }
    found = {}
    for name, part in parts.items():
        print(name, file=sys.stderr)
        found[name] = asyncio.run(part)
    return found


def checks(result: Mapping[str, Any]) -> list[tuple[str, float, str, float]]:
    """What was to be reached: what, measured, how they compare, target."""
    found: list[tuple[str, float, str, float]] = []
    for start in ("1", "1000"):
        width = result[f"width from {start}"]
        found.append((f"auto from {start}: answers/s, of the best", width["share"], ">=", 0.95))
        found.append((f"auto from {start}: in flight, of the knee", width["width"], "<=", 1.5))
    for name in ("rate", "rate told"):
        found.append((f"600 a minute, {name}: of what is allowed", result[name]["share"], ">=", 0.97))
        found.append((f"600 a minute, {name}: share of 429s", result[name]["refused"], "<=", 0.01))
        found.append((f"600 a minute, {name}: longest gap, s", result[name]["gap_s"], "<=", 1.5))
    found.append(("three endpoints: of what the two good ones do", result["several"]["share"], ">=", 0.95))
    found += [(f"{name}: records failed", part["failed"], "<=", 0) for name, part in result.items()]
    return found


def report(result: Mapping[str, Any]) -> str:
    """One table of what was to be reached."""
    rows = [[what, f"{measured:.3g}", f"{how} {target:g}"] for what, measured, how, target in checks(result)]
    return table(["what", "measured", "target"], rows)


def main() -> None:
    """Measure, print the table, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a third of the time; nothing is stored")
    a = parser.parse_args()
    result = measure(a.quick)
    print(report(result))
    if not a.quick:
        store("pace", result)


if __name__ == "__main__":
    main()
