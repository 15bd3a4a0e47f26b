"""What users would pick instead: the same records through their usual ways and through the engine.

    python -m benchmarks.peers --python PEERS/bin/python --python CURATOR/bin/python          6 minutes
    python -m benchmarks.peers --quick --python ...       1 round, 30 in flight, a minute; nothing is stored
    python -m benchmarks.peers --only threads,flexllm --python ...      some of them; nothing is stored

The peers live in environments of their own, made of `requirements.txt` and `requirements-curator.txt`; each
is run with the first `--python` that has what it needs. Each does the whole job (file, base64, request,
reply, file) in a fresh process, with the retries that it has by default, its own rate limits raised out of
the way and no way out of this machine. Each number in flight is tried with few records; what is compared is
each at its best. The endpoint counts: whoever does not send each record once, or writes fewer answers, has no
figures.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.harness import endpoint, median, run_client, run_module, store, table
from benchmarks.peer_clients import PEERS

ENGINE = "engine"
YARDSTICK = "minimal"
"""The least that aiohttp needs for the job: beside it is seen how much there was to gain on a machine."""
SEED = "threads"
SEED_IN_FLIGHT = 100
"""Requests in flight at which the CPU of the seed's way and of the engine is compared."""
FASTER = 10  # the engine's trial gets so many times the records of a peer's, to last about as long
HEADER = (
    "client",
    "in flight",
    "records",
    "req/s",
    "MB/s",
    "CPU ms a request",
    "peak RSS MB",
    "engine / this, req/s",
    "this / engine, CPU",
)


@dataclass(frozen=True)
class Bench:
    """What all measurements of a run share."""

    url: str
    folder: Path
    size: int
    interpreters: Mapping[str, str]

    def measured(self, name: str, records: int, workers: int) -> dict[str, float]:
        """One measurement of a peer or of the engine in a fresh process.

        Raises:
            RuntimeError: it failed, or did not do the job; the message says how.
        """
        own = name in (ENGINE, YARDSTICK)
        found = self._own(name, records, workers) if own else self._peer(name, records, workers)
        if found["answered"] != records:
            raise RuntimeError(f"sent {found['answered']:,.0f} requests for {records:,} records")
        if found["written"] < records:
            raise RuntimeError(f"wrote {found['written']:,.0f} answers of {records:,}")
        rate = records / found["seconds"]
        return {
            "rate": rate,
            "mb_s": rate * self.size / 1e6,
            "cpu_ms": found["cpu_s"] / records * 1000,
            "rss_mb": found["rss_mb"],
            "seconds": found["seconds"],
        }

    def _own(self, name: str, records: int, workers: int) -> dict[str, float]:
        self._answered("reset")
        found = run_client(name, url=self.url, folder=self.folder, records=records, workers=workers)
        # That every record succeeded, the engine's client asserts, and the other one has no other way to end.
        return found | {"answered": self._answered("stats"), "written": records}

    def _peer(self, name: str, records: int, workers: int) -> dict[str, float]:
        found = run_module(
            "benchmarks.peer_clients", name, "--url", self.url, "--images", self.folder,
            "--records", records, "--workers", workers, interpreter=self.interpreters[name], timeout_s=120,
        )  # fmt: skip
        if refused := found.pop("refused"):
            print(f"{name} was kept from {', '.join(refused)}", file=sys.stderr)
        return found

    def _answered(self, what: str) -> int:
        with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/{what}", timeout=10) as reply:
            return int(json.load(reply)["answered"])


def measure(
    quick: bool = False,
    *,
    pythons: Sequence[str] = (),
    only: Sequence[str] = (),
    size: int = 100_000,
    workers: Sequence[int] = (10, 30, 100),
    rounds: int = 5,
    seconds: float = 3.0,
) -> dict[str, Any]:
    """The median figures of each, at its best number in flight.

    Args:
        quick: one round of one second, with the middle number in flight.
        pythons: interpreters of the environments in which peers are installed.
        only: names of peers; all without. The engine is always there.
        size: bytes of an image, about.
        workers: requests in flight, each tried.
        rounds: measurements of each, interleaved.
        seconds: how long a measurement should last.
    """
    if quick:
        workers, rounds, seconds = [sorted(workers)[len(workers) // 2]], 1, 1.0
    interpreters, versions = _environments(pythons or [sys.executable])
    wanted = [name for name in PEERS if not only or name in only]
    missing = [name for name in wanted if name not in interpreters]
    failed = {name: f"not installed: {', '.join(PEERS[name].packages)}" for name in missing}
    with endpoint() as url, photos(size) as folder:
        bench = Bench(url, folder, size, interpreters)
        here = [ENGINE, *(name for name in wanted if name not in failed)]
        tried = {name: _tried(bench, name, workers, failed) for name in here}
        best = {name: max(rates, key=lambda w: rates[w]) for name, rates in tried.items() if rates}
        records = {name: max(2 * w, round(tried[name][w] * seconds)) for name, w in best.items()}
        medians = _rounds(bench, best, records, rounds, failed)
        compared = () if quick or SEED not in medians else (ENGINE, YARDSTICK, SEED)
        alike = dict.fromkeys(compared, SEED_IN_FLIGHT)
        alike_medians = _rounds(bench, alike, records | {YARDSTICK: records[ENGINE]}, rounds, failed)
    return {
        "versions": {name: versions[name] for name in wanted if name in versions},
        "tried": {name: rates for name, rates in tried.items() if rates},
        "in_flight": best,
        "records": records,
        "medians": medians,
        "medians_at_100": alike_medians,
        "failed": failed,
    }


def checks(result: Mapping[str, Any]) -> list[tuple[str, float, str, float]]:
    """What was to be reached: what, measured, how they compare, target."""
    medians = dict(result["medians"])
    ours = medians.pop(ENGINE)
    found = []
    if alike := result["medians_at_100"]:
        ratio = alike[SEED]["cpu_ms"] / alike[ENGINE]["cpu_ms"]
        what = f"CPU a request, {SEED_IN_FLIGHT} in flight: openai SDK in threads / engine"
        found.append((what, ratio, ">=", 13.0))
    found += [
        (f"throughput: engine / {name}", ours["rate"] / peer["rate"], ">=", 8.0)
        for name, peer in medians.items()
    ]
    return found


@contextlib.contextmanager
def photos(size: int) -> Iterator[Path]:
    """A folder with different JPEGs of about ``size`` bytes, 2 bits a pixel, as photos have.

    Not ``harness.images``: those are small pictures with padding, which who decodes them (one peer does) has
    little work with, and loses when it encodes them anew. So many that the engine's cache never has the next.
    """
    side = round((size * 4) ** 0.5)
    noise = _noise_of(side, size)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(max(50, 48_000_000 // size)):
            (Path(folder) / f"{number:04}.jpg").write_bytes(_grain(side, noise))
        yield Path(folder)


def _noise_of(side: int, size: int) -> float:
    """How strong the grain of a picture must be for its file to have ``size`` bytes; found by halving."""
    low, high = 0.0, 200.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if len(_grain(side, middle)) < size else (low, middle)
    return low


def _grain(side: int, noise: float) -> bytes:
    """A JPEG of grey grain, each one different."""
    buffer = io.BytesIO()
    Image.effect_noise((side, side), noise).convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _environments(pythons: Sequence[str]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """By peer, the first interpreter that has its packages, and their versions there."""
    installed = {p: run_module("benchmarks.peer_clients", "--versions", interpreter=p) for p in pythons}
    interpreters, versions = {}, {}
    for name, peer in PEERS.items():
        for python, there in installed.items():
            if name not in interpreters and there.keys() >= set(peer.packages):
                interpreters[name] = python
                versions[name] = {package: there[package] for package in peer.packages}
    return interpreters, versions


def _tried(bench: Bench, name: str, workers: Sequence[int], failed: dict[str, str]) -> dict[int, float]:
    """Requests a second of each number in flight, with few records; why not goes to ``failed``."""
    rates: dict[int, float] = {}
    for in_flight in workers:
        records = max(2 * in_flight, min(150, 15_000_000 // bench.size)) * (FASTER if name == ENGINE else 1)
        _say(f"{name}, {in_flight} in flight")
        try:
            rates[in_flight] = bench.measured(name, records, in_flight)["rate"]
        except RuntimeError as error:
            failed[name] = f"{in_flight} in flight: {error}"
    if rates:
        failed.pop(name, None)
    return rates


def _rounds(
    bench: Bench,
    best: Mapping[str, int],
    records: Mapping[str, int],
    rounds: int,
    failed: dict[str, str],
) -> dict[str, dict[str, float]]:
    """The medians of each, measured in turn; one that fails in a round is out, and ``failed`` says why.

    Not ``harness.interleaved``: there a failure ends the run, here it is a result.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in best}
    for number in range(rounds):
        for name in [name for name in best if name not in failed]:
            _say(f"round {number + 1} of {rounds}: {name}")
            try:
                found[name].append(bench.measured(name, records[name], best[name]))
            except RuntimeError as error:
                failed[name] = str(error)
    _say("")
    return {name: median(measured) for name, measured in found.items() if name not in failed}


def _say(what: str) -> None:
    """One line of progress for whoever watches, over the last one."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def report(result: Mapping[str, Any]) -> str:
    """The table, the engine first, then the peers from the fastest; below it what to know of them."""
    medians = result["medians"]
    order = sorted(medians, key=lambda name: (name != ENGINE, -medians[name]["rate"]))
    rows = [_row(name, result) for name in order]
    for name, why in result["failed"].items():
        rows.append([_title(name, result), f"no figures: {why}", *[""] * (len(HEADER) - 2)])
    noted = [PEERS[name] for name in order if name in PEERS and PEERS[name].note]
    notes = [f"- {peer.title}: {peer.note}." for peer in noted]
    return "\n".join([table(HEADER, rows), "", *notes, *_alike(result["medians_at_100"])])


def _alike(medians: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What the seed's way, the engine and the yardstick take for a request, with as many in flight."""
    if not medians:
        return []
    seed, engine, least = (medians[name]["cpu_ms"] for name in (SEED, ENGINE, YARDSTICK))
    return [
        f"- With {SEED_IN_FLIGHT} in flight {PEERS[SEED].title} takes {seed:.2f} ms of CPU a request: "
        f"{seed / engine:.1f} times the engine's {engine:.3f}, and {seed / least:.1f} times the {least:.3f} "
        "of a minimal aiohttp loop, which has no ids, journal, retry, gates or statistics."
    ]


def _row(name: str, result: Mapping[str, Any]) -> list[str]:
    """The figures of one, and how it compares where the engine has figures."""
    this, ours = result["medians"][name], result["medians"].get(ENGINE)
    return [
        _title(name, result),
        f"{result['in_flight'][name]}",
        f"{result['records'][name]:,}",
        f"{this['rate']:,.0f}",
        f"{this['mb_s']:,.0f}",
        f"{this['cpu_ms']:.2f}",
        f"{this['rss_mb']:.0f}",
        f"{ours['rate'] / this['rate']:.1f}" if ours else "",
        f"{this['cpu_ms'] / ours['cpu_ms']:.1f}" if ours else "",
    ]


def _title(name: str, result: Mapping[str, Any]) -> str:
    """A row's name, with the version of what it is first of all made of."""
    if name == ENGINE:
        return "**the engine**"
    peer = PEERS[name]
    version = result["versions"].get(name, {}).get(peer.packages[0], "")
    return f"{peer.title} ({version})" if version else peer.title


def _names(text: str) -> list[str]:
    """Comma-separated names of peers."""
    names = text.split(",")
    if unknown := set(names) - PEERS.keys():
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there are {', '.join(PEERS)}")
    return names


def _numbers(text: str) -> list[int]:
    """Comma-separated numbers."""
    return [int(number) for number in text.split(",")]


def main() -> None:
    """Measure, print the table, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", default=[], help="of a peers' environment; repeatable")
    parser.add_argument("--only", type=_names, default=[], help=f"of {','.join(PEERS)}; nothing is stored")
    parser.add_argument("--size", type=int, default=100_000, help="bytes of an image, about")
    parser.add_argument("--workers", type=_numbers, default=[10, 30, 100], help="in flight, each tried")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="that a measurement should last")
    parser.add_argument("--quick", action="store_true", help="1 round of 1 s; nothing is stored")
    a = parser.parse_args()
    result = measure(
        a.quick,
        pythons=a.python,
        only=a.only,
        size=a.size,
        workers=a.workers,
        rounds=a.rounds,
        seconds=a.seconds,
    )
    print(report(result))
    if not (a.quick or a.only):
        arguments = {"size": a.size, "workers": a.workers, "rounds": a.rounds, "seconds": a.seconds}
        store("peers" if a.size == 100_000 else f"peers_{a.size}", {"arguments": arguments, **result})


if __name__ == "__main__":
    main()
