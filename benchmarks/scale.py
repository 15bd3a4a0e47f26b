"""What 1, 10 and 100 machines sustain, and what bounds them: a simulation, from costs that were measured.

    python -m benchmarks.scale                           all cases, half a minute; asks nobody
    python -m benchmarks.scale --quick                   the same over fewer requests; nothing is stored
    python -m benchmarks.scale --image-kb 500 --latency 8 --width 512

No cluster was at hand, so this is a model and no measurement. It is a closed queueing network, simulated
request by request with a fixed seed: each machine has one worker with ``width`` requests in flight; a request
waits for the shared disk, the worker's CPU and its network (first come first served), then for the endpoint,
which has so many seats and takes a lognormal time; then its place asks for the next record. When a worker
runs low it asks the head for a chunk, and that hands out one after the other, as fast as the reader reads.

What it assumes, and from where:

- CPU a request: of one worker on one core, images of 100 KB; measured (`results/scaling.json`, pinned).
- Reading a record: measured when this starts, over 20,000 rows of JSONL.
- The head, Ray Data's executor: 10 ms from chunk to chunk, of which 6.2 ms are CPU; measured over 3,000 empty
  chunks on two busy cores.
- Records in a chunk: as ``distributed/run.py`` chooses, twice a worker's width, from 64 to 512.
- Object store: 1.5 KB a record, a row of text, out of the reader's machine; images do not pass there.
- Network: assumed, 10 Gbit/s a machine, 80 % of that of use; an image is sent as base64, 4/3 of its size.
- Shared disk for images and parts: assumed, 2 GB/s over all machines.
- Limiter: none is asked, since shares are divided. One in an actor: assumed, 5,000 calls/s at best.
- Latency of an answer: assumed, lognormal, mean 4 s, sigma 0.5, as of a vision model of some 10 B.
- Endpoints: the cases.

Left out: start-up (10 to 30 s), failures and retries, stragglers at the end, machines of unequal speed.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import random
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, store, table

MACHINES = (1, 10, 100)
SEED = 7
SIGMA = 0.5
HEAD_S = 0.010
"""Between two chunks that the head hands out: 100 a second were seen, at 6.2 ms of its CPU each."""
RECORD_BYTES = 1500
NETWORK_BYTES = 0.8 * 10e9 / 8
DISK_BYTES = 2e9
LIMITER_CALLS = 5000
BUSY = 0.9
"""From which share of its time on something is called what bounds the rest."""

RESOURCES = ("worker CPU", "network", "shared disk", "reader and head", "endpoint")

_SAMPLE = 20_000

HEADER = ("case", "machines", "in flight", "req/s", "a machine", "bound by", "busy")


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that things take.

    Attributes:
        cpu_s: of a worker, a request.
        read_s: of the reader, a record.
        head_s: of the head, a chunk.
    """

    cpu_s: float
    read_s: float
    head_s: float = HEAD_S


@dataclass(frozen=True, slots=True)
class Case:
    """An endpoint, and how it is asked.

    Attributes:
        name: what it is.
        seats: requests that it works on at once, over all its replicas; 0: as many as come.
        rate: requests a second that it lets in; 0: any.
        grows: whether there is so much of it for each machine.
        latency_s: mean time of an answer, where it is not that of all.
    """

    name: str
    seats: int = 0
    rate: float = 0.0
    grows: bool = False
    latency_s: float = 0.0


CASES = (
    Case("an API with 60,000 requests a minute", rate=1000.0),
    Case("8 GPUs of 64 seats, however many machines ask", seats=512),
    Case("4 GPUs of 64 seats beside each machine", seats=256, grows=True),
    Case("an endpoint that nothing bounds"),
    Case("the same, with answers after 0.2 s", latency_s=0.2),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a simulation: requests a second, and the share of time that things were busy."""

    rate: float
    busy: dict[str, float]

    @property
    def bound(self) -> str:
        """What all else waits for: the busiest thing, or that there are no more requests in flight."""
        name = max(self.busy, key=lambda one: self.busy[one])
        return name if self.busy[name] >= BUSY else "requests in flight"


class Network:
    """The closed network of one case: what happens next, and what has been busy for how long.

    Args:
        case: the endpoint.
        machines: with a worker each.
        width: requests in flight of a worker.
        latency_s: mean time of an answer.
        image: bytes of an image.
        costs: what was measured.
    """

    def __init__(
        self, case: Case, machines: int, width: int, latency_s: float, image: int, costs: Costs
    ) -> None:
        self._draw = random.Random(SEED)
        self._mu = math.log(case.latency_s or latency_s) - SIGMA**2 / 2
        self._machines, self._width, self._costs = machines, width, costs
        self._seats = case.seats * (machines if case.grows else 1)
        self._chunk = chunk_of(width)
        self._chunk_s = max(costs.head_s, self._chunk * costs.read_s)
        self._sent_s, self._disk_s = image * 4 / 3 / NETWORK_BYTES, image / DISK_BYTES
        self._let_in_s = 1 / case.rate if case.rate else 0.0
        self._cpu_free, self._net_free = [0.0] * machines, [0.0] * machines
        self._head_free = self._disk_free = self._gate_free = 0.0
        self._stock, self._asked, self._idle = [0] * machines, [False] * machines, [0] * machines
        self._queue: deque[int] = deque()
        self._in_seats = 0
        self._order = itertools.count()
        self._events: list[tuple[float, int, str, int]] = []
        self._used = dict.fromkeys(RESOURCES, 0.0)

    def run(self, requests: int) -> Found:
        """So many requests; the first fifth, until all is under way, does not count."""
        for machine in range(self._machines):
            for _ in range(self._width):
                self._begin(0.0, machine)
        began_at = self._until(requests // 5)
        self._used = dict.fromkeys(RESOURCES, 0.0)
        passed = self._until(requests - requests // 5) - began_at
        busy = {name: min(1.0, spent / passed) for name, spent in self._used.items()}
        return Found((requests - requests // 5) / passed, busy)

    def _until(self, answers: int) -> float:
        """Go on for so many answers; what time it is then."""
        now = 0.0
        while answers:
            now, _, what, machine = heapq.heappop(self._events)
            if what == "chunk":
                self._take_chunk(now, machine)
            elif what == "arrived":
                self._arrive(now, machine)
            else:
                answers -= 1
                self._leave(now, machine)
        return now

    def _at(self, when: float, what: str, machine: int) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, machine))

    def _begin(self, now: float, machine: int) -> None:
        """A place in flight is free: the next record goes through disk, CPU, network and gate."""
        self._ask_head(now, machine)
        if not self._stock[machine]:
            self._idle[machine] += 1
            return
        self._stock[machine] -= 1
        self._disk_free = max(self._disk_free, now) + self._disk_s
        self._cpu_free[machine] = max(self._cpu_free[machine], self._disk_free) + self._costs.cpu_s
        sent = self._net_free[machine] = max(self._net_free[machine], self._cpu_free[machine]) + self._sent_s
        if self._let_in_s:
            sent = self._gate_free = max(self._gate_free + self._let_in_s, sent)
        self._use("shared disk", self._disk_s)
        self._use("worker CPU", self._costs.cpu_s / self._machines)
        self._use("network", self._sent_s / self._machines)
        self._at(sent, "arrived", machine)

    def _ask_head(self, now: float, machine: int) -> None:
        if not self._asked[machine] and self._stock[machine] <= self._chunk:
            self._asked[machine] = True
            self._head_free = max(self._head_free, now) + self._chunk_s
            self._use("reader and head", self._chunk_s)
            self._at(self._head_free, "chunk", machine)

    def _take_chunk(self, now: float, machine: int) -> None:
        self._asked[machine] = False
        self._stock[machine] += self._chunk
        began = min(self._idle[machine], self._chunk)
        self._idle[machine] -= began
        for _ in range(began):
            self._begin(now, machine)

    def _arrive(self, now: float, machine: int) -> None:
        if self._seats and self._in_seats >= self._seats:
            self._queue.append(machine)
            return
        self._in_seats += 1
        took = self._draw.lognormvariate(self._mu, SIGMA)
        self._use("endpoint", took / self._seats if self._seats else self._let_in_s)
        self._at(now + took, "answered", machine)

    def _leave(self, now: float, machine: int) -> None:
        self._in_seats -= 1
        if self._queue:
            self._arrive(now, self._queue.popleft())
        self._begin(now, machine)

    def _use(self, name: str, seconds: float) -> None:
        self._used[name] += seconds


def chunk_of(width: int) -> int:
    """Records in a chunk, as a distributed run chooses it."""
    return min(512, max(64, 2 * width))


def measured_costs() -> Costs:
    """What a request costs, from the stored result, and what reading costs, here and now."""
    found = json.loads((RESULTS / "scaling.json").read_text())
    cpu_ms: float = found["settings"][0]["ways"]["1 process, pinned"]["cpu_ms"]
    return Costs(cpu_s=cpu_ms / 1000, read_s=_read_s())


def _read_s() -> float:
    from vqa_async.config import Config
    from vqa_async.distributed.reading import Reading, packed_chunks
    from vqa_async.keytable import RecordTable

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.jsonl"
        row = {"image": "0.jpg", "conversation": [{"from": "human", "value": "What is this?"}]}
        path.write_text("".join(json.dumps(row | {"id": f"r{n}"}) + "\n" for n in range(_SAMPLE)))
        reading = Reading(str(path), "auto", None, Config(), RecordTable(), folder, 512)
        started = time.process_time()
        deque(packed_chunks(reading), maxlen=0)
        return (time.process_time() - started) / _SAMPLE


def measure(
    quick: bool = False, *, width: int = 512, latency_s: float = 4.0, image: int = 100_000
) -> dict[str, Any]:
    """What each case sustains on each number of machines."""
    costs = measured_costs()
    rows = []
    for case, machines in itertools.product(CASES, MACHINES):
        most = 60_000 if quick else 400_000
        requests = max(min(most, 12 * machines * width), 3 * machines * width)
        found = Network(case, machines, width, latency_s, image, costs).run(requests)
        rows.append(
            {
                "case": case.name,
                "machines": machines,
                "in_flight": machines * width,
                "rate": found.rate,
                "bound": found.bound,
                "busy": found.busy,
            }
        )
    return {
        "costs": asdict(costs),
        "width": width,
        "latency_s": latency_s,
        "image": image,
        "limits": limits(costs, width, image),
        "rows": rows,
    }


def limits(costs: Costs, width: int, image: int) -> dict[str, float]:
    """Requests a second that each thing alone would allow, whatever the rest does."""
    return {
        "one worker's CPU": 1 / costs.cpu_s,
        "one machine's network": NETWORK_BYTES / (image * 4 / 3),
        "shared disk": DISK_BYTES / image,
        "head": chunk_of(width) / costs.head_s,
        "reader": 1 / costs.read_s,
        "object store, out of the reader": NETWORK_BYTES / RECORD_BYTES,
        "a limiter in an actor, were there one": float(LIMITER_CALLS),
    }


def report(result: Mapping[str, Any]) -> str:
    """Both tables, in Markdown."""
    costs = result["costs"]
    alone = [(name, f"{rate:,.0f}") for name, rate in result["limits"].items()]
    return "\n\n".join(
        [
            f"Images of {result['image'] / 1000:,.0f} KB, answers after {result['latency_s']:g} s, "
            f"{result['width']} in flight a machine; {costs['cpu_s'] * 1e6:,.0f} us of CPU a request, "
            f"{costs['read_s'] * 1e6:,.0f} us to read a record, {costs['head_s'] * 1e3:,.0f} ms a chunk.",
            table(("alone would allow", "req/s"), alone),
            table(HEADER, [_cells(row) for row in result["rows"]]),
        ]
    )


def _cells(row: Mapping[str, Any]) -> Sequence[object]:
    busiest = sorted(row["busy"].items(), key=lambda one: -one[1])[:3]
    return (
        row["case"],
        row["machines"],
        f"{row['in_flight']:,}",
        f"{row['rate']:,.0f}",
        f"{row['rate'] / row['machines']:,.0f}",
        row["bound"],
        ", ".join(f"{name} {share:.0%}" for name, share in busiest if share >= 0.01),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=512, help="requests in flight of a machine")
    parser.add_argument("--latency", type=float, default=4.0, help="mean seconds of an answer")
    parser.add_argument("--image-kb", type=float, default=100.0)
    parser.add_argument("--quick", action="store_true", help="fewer requests; nothing is stored")
    a = parser.parse_args()
    found = measure(a.quick, width=a.width, latency_s=a.latency, image=round(a.image_kb * 1000))
    print(report(found))
    if not a.quick:
        store("scale", {"arguments": vars(a), **found})
